"""Accuracy of an attribute guess; its chance is the majority's share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.measure import GuessKind, Measure, check_probabilities, register
from wireleak.common.measures.scores.priors import majority
from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.measures.statistics.score import Floats, Score


@register
@dataclass(frozen=True, kw_only=True)
class Accuracy(Measure):
    """Share of examples whose most probable class is the true one; chance is `majority(truth)`."""

    name: str = "accuracy"
    label: str = "Accuracy"
    meaning: str = "share guessed correctly"
    low: float = 0.0
    high: float = 1.0
    percent: bool = True
    margin: float = 0.1
    order: int = 230
    applies_to: GuessKind = "attribute"

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score probabilities (n, classes) against labels (n,)."""
        check_probabilities(guess, truth)
        return mean_score(self.name, guess.argmax(axis=1) == truth, rng, majority(truth))
