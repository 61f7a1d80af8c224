"""Area under the ROC curve of an attribute guess: 1 is certain, .5 is chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.measure import GuessKind, Measure, check_probabilities, register
from wireleak.common.measures.statistics.bootstrap import weighted_score
from wireleak.common.measures.statistics.score import Doubles, Floats, Score


@register
@dataclass(frozen=True, kw_only=True)
class AreaUnderCurve(Measure):
    """AUC of two classes, or its macro average one class against the rest over the classes that occur.

    The Mann-Whitney statistic, ties counted half. NaN where all labels are alike; a resample without a class leaves
    that class out.
    """

    name: str = "auc"
    label: str = "AUC"
    meaning: str = (
        "how well the guess ranks inputs that have the attribute above those that do not (mean over classes); "
        "0.5 is chance, 1 is certainty"
    )
    low: float = 0.0
    high: float = 1.0
    margin: float = 0.1
    order: int = 80
    applies_to: GuessKind = "attribute"

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score probabilities (n, classes) against labels (n,)."""
        check_probabilities(guess, truth)
        present = np.unique(truth).tolist()
        chosen = [1] if guess.shape[1] == 2 else present
        curves = [_weighted_auc(guess[:, k], truth == k) for k in chosen]

        def macro(weights: Floats) -> Doubles:
            each = np.stack([curve(weights) for curve in curves])
            defined = np.isfinite(each)
            count = defined.sum(axis=0)
            total = np.where(defined, each, 0.0).sum(axis=0)
            return np.where(count > 0, total / np.maximum(count, 1), np.nan)

        return weighted_score(self.name, macro, len(guess), rng, chance=0.5)


def _weighted_auc(scores: Floats, positive: npt.NDArray[np.bool_]) -> Callable[[Floats], Doubles]:
    """Weights (resamples, n) -> AUC (resamples,); the ranking is done once for all resamples."""
    _, rank = np.unique(scores, return_inverse=True)
    order = np.argsort(rank, kind="stable")
    negatives, positives = order[~positive[order]], order[positive[order]]
    # For each positive: the first negative not below it, and the first above it.
    lower = np.searchsorted(rank[negatives], rank[positives], side="left")
    upper = np.searchsorted(rank[negatives], rank[positives], side="right")

    def auc(weights: Floats) -> Doubles:
        rows = len(weights)
        below = np.zeros((rows, len(negatives) + 1), np.float64)
        np.cumsum(weights[:, negatives], axis=1, out=below[:, 1:])
        mine = weights[:, positives]
        pairs = np.einsum("rp,rp->r", mine, below[:, lower] + below[:, upper]) / 2
        total = mine.sum(axis=1, dtype=np.float64) * below[:, -1]
        return np.where(total > 0, pairs / np.maximum(total, 1), np.nan)

    return auc
