"""Mean squared error of a reconstruction, on the data's own scale (images: pixels in [0, 1])."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.score import Floats, Kind, Score, check_reconstruction, register
from wireleak.common.measures.statistics.bootstrap import Doubles, mean_score


def squared_errors(guess: Floats, truth: npt.NDArray[np.generic]) -> Doubles:
    """Mean squared error of each example, float64 (n,), of two arrays (n, ...)."""
    rows = len(guess)
    difference = np.asarray(guess, np.float32).reshape(rows, -1) - np.asarray(truth, np.float32).reshape(rows, -1)
    return np.asarray((difference**2).mean(axis=1, dtype=np.float64))


@register
@dataclass(frozen=True)
class MeanSquaredError:
    """Mean over examples of each one's mean squared error; images and sensor windows alike.

    `MSE[-1, 1] = 4 x MSE[0, 1]`. Judge it beside the mean image's: a low value alone may be the prior.
    """

    name: str = "mse"
    applies_to: Kind = "reconstruction"
    higher_leaks: bool = False
    smallest_image: int = 0

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score reconstructions (n, ...)."""
        check_reconstruction(guess, truth)
        return mean_score(self.name, squared_errors(guess, truth), rng)
