"""How much of a text was rebuilt word for word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.measure import GuessKind, Measure, check_reconstruction, register
from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.measures.statistics.score import Floats, Score


@register
@dataclass(frozen=True, kw_only=True)
class WordsRight(Measure):
    """Mean over texts of the share of words in their right position; padding (0) does not count.

    A text without words counts as right where its reconstruction has none either.
    """

    name: str = "words"
    label: str = "Words right"
    meaning: str = "share of a text's words rebuilt in their position; chance is one in the vocabulary"
    low: float = 0.0
    high: float = 1.0
    percent: bool = True
    margin: float = 0.05
    order: int = 20
    applies_to: GuessKind = "text"

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score word numbers (n, length)."""
        check_reconstruction(guess, truth)
        real = np.asarray(truth) != 0
        right = (np.round(guess) == truth) & real
        empty = ~real.any(1)
        share = np.where(empty, ~np.round(guess).any(1), right.sum(1) / np.maximum(real.sum(1), 1))
        return mean_score(self.name, share, rng)
