"""The epsilon that guesses about an audit's canaries prove, and the scores of such guesses."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.bounds.auditing import from_canaries
from wireleak.common.measures.scores.auc import AreaUnderCurve
from wireleak.common.measures.scores.tpr_at_fpr import TruePositivesAtOnePercent
from wireleak.common.measures.statistics.score import Floats, Score

DELTA = 1e-5
# Fixed before any guess: so large a share of the canaries is named as used, and as many as left out; of the others the
# audit says nothing.
_SHARE = 0.25


def canary_scores(probabilities: Floats, truth: npt.NDArray[np.int64], rng: np.random.Generator) -> list[Score]:
    """AUC, TPR at FPR 1 % and the epsilon proved by guesses (n, 2) about canaries (n,), 1 for those trained on.

    Raises
    ------
    ValueError
        Shapes differ, there are no rows, or a guess is not finite.
    """
    first, second = rng.spawn(2)
    scores = [AreaUnderCurve()(probabilities, truth, first), TruePositivesAtOnePercent()(probabilities, truth, second)]
    return [*scores, proved(probabilities[:, 1], truth)]


def proved(score: Floats, truth: npt.NDArray[np.int64]) -> Score:
    """Return the lower bound (95 %) on epsilon: the quarter with the highest scores is guessed as used, the lowest not.

    Of equal scores the order in the file decides, which is random.
    """
    order, each = np.argsort(score, kind="stable"), int(len(score) * _SHARE)
    if not each:
        return Score("canary-epsilon", math.nan, math.nan, math.nan, len(score), 0.0)
    correct = int((truth[order[-each:]] == 1).sum() + (truth[order[:each]] == 0).sum())
    value = from_canaries(correct, 2 * each, len(score), DELTA)
    return Score("canary-epsilon", value, math.nan, math.nan, len(score), 0.0)
