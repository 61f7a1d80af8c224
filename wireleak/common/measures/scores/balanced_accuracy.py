"""Balanced accuracy of an attribute guess: the mean over classes of each one's recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.measure import GuessKind, Measure, check_probabilities, register
from wireleak.common.measures.statistics.bootstrap import weighted_score
from wireleak.common.measures.statistics.score import Doubles, Floats, Score


@register
@dataclass(frozen=True, kw_only=True)
class BalancedAccuracy(Measure):
    """Mean recall over the classes that occur; always guessing one class gives chance, 1 / classes that occur."""

    name: str = "balanced-accuracy"
    label: str = "Balanced accuracy"
    meaning: str = "share guessed correctly, with equal weight for every class"
    low: float = 0.0
    high: float = 1.0
    percent: bool = True
    margin: float = 0.1
    order: int = 220
    applies_to: GuessKind = "attribute"
    stream: str = "balanced_accuracy"

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score probabilities (n, classes) against labels (n,)."""
        check_probabilities(guess, truth)
        classes = np.unique(truth)
        members = (truth[:, None] == classes).astype(np.float32)
        correct = members * (guess.argmax(axis=1) == truth)[:, None]

        def balanced(weights: Floats) -> Doubles:
            size = (weights @ members).astype(np.float64)
            recall = (weights @ correct) / np.maximum(size, 1)
            return np.asarray(recall.sum(axis=1) / np.maximum((size > 0).sum(axis=1), 1))

        return weighted_score(self.name, balanced, len(guess), rng, chance=1 / len(classes))
