"""Accuracy of an attribute guess; its chance is the majority's share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.controls import majority
from wireleak.common.measures.scores.score import Floats, Kind, Score, check_probabilities, register
from wireleak.common.measures.statistics.bootstrap import mean_score


@register
@dataclass(frozen=True)
class Accuracy:
    """Share of examples whose most probable class is the true one; chance is `majority(truth)`."""

    name: str = "accuracy"
    applies_to: Kind = "attribute"
    higher_leaks: bool = True
    smallest_image: int = 0

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score probabilities (n, classes) against labels (n,)."""
        check_probabilities(guess, truth)
        return mean_score(self.name, guess.argmax(axis=1) == truth, rng, majority(truth))
