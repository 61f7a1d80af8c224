"""Mean squared error of a reconstruction, on the data's own scale (images: pixels in [0, 1])."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.measure import GuessKind, Measure, check_reconstruction, register
from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.measures.statistics.score import Doubles, Floats, Score
from wireleak.common.memory import blocks


def squared_errors(guess: Floats, truth: npt.NDArray[np.generic]) -> Doubles:
    """Mean squared error of each example, float64 (n,), of two arrays (n, ...)."""
    errors = np.empty(len(guess))
    for part in blocks(len(guess), 8 * guess[0].size):
        one, other = (np.asarray(rows[part], np.float32).reshape(len(rows[part]), -1) for rows in (guess, truth))
        errors[part] = ((one - other) ** 2).mean(axis=1, dtype=np.float64)
    return errors


@register
@dataclass(frozen=True, kw_only=True)
class MeanSquaredError(Measure):
    """Mean over examples of each one's mean squared error; images and sensor windows alike.

    `MSE[-1, 1] = 4 x MSE[0, 1]`. Compare it with the mean image's: a low value may come from the prior.
    """

    name: str = "mse"
    label: str = "MSE"
    meaning: str = "mean squared error per value, pixels from 0 to 1; lower is closer"
    higher_leaks: bool = False
    low: float = 0.0
    places: int = 4
    margin: float = 0.05
    order: int = 30
    applies_to: GuessKind = "reconstruction"

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score reconstructions (n, ...)."""
        check_reconstruction(guess, truth)
        return mean_score(self.name, squared_errors(guess, truth), rng)
