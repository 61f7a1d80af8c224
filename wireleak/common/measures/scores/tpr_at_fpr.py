"""True positive rates of membership at low false positive rates, and the scores of a membership guess."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.auc import AreaUnderCurve
from wireleak.common.measures.scores.measure import GuessKind, Measure, check_probabilities, register
from wireleak.common.measures.statistics.bootstrap import independent, weighted_score
from wireleak.common.measures.statistics.score import Doubles, Floats, Score


@dataclass(frozen=True, kw_only=True)
class TruePositivesAt(Measure):
    """True positive rate at the lowest threshold whose false positive rate is at most `rate`.

    Nothing is interpolated. With fewer than 1 / `rate` independent non-members (persons, where whole persons are
    resampled) no such rate can be measured, so the value is NaN; so it is without members or non-members.

    References
    ----------
    Carlini et al., "Membership Inference Attacks From First Principles", S&P 2022.
    """

    rate: float
    low: float = 0.0
    high: float = 1.0
    percent: bool = True
    applies_to: GuessKind = "member"

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score probabilities (n, 2) of being a member against labels (n,), 1 for members."""
        statistic = self._statistic(guess, truth)
        if independent(truth != 1) * self.rate < 1 - 1e-9:
            return Score(self.name, math.nan, math.nan, math.nan, len(guess), self.rate)
        return weighted_score(self.name, statistic, len(guess), rng, chance=self.rate)

    def _statistic(self, guess: Floats, truth: npt.NDArray[np.generic]) -> _Curve:
        check_probabilities(guess, truth)
        return _Curve(guess[:, 1], truth == 1, self.rate)


class _Curve:
    """Weights (resamples, n) -> rates (resamples,); the ranking is done once for all resamples."""

    def __init__(self, scores: Floats, member: npt.NDArray[np.bool_], rate: float) -> None:
        self._order = np.argsort(-scores, kind="stable")
        self._member, self._rate = member[self._order], rate
        # A threshold names all that tie with it.
        self._last = np.flatnonzero(np.diff(scores[self._order], append=np.nan) != 0)

    def __call__(self, weights: Floats) -> Doubles:
        drawn = weights[:, self._order].astype(np.float64)
        hits = (drawn * self._member).cumsum(1)[:, self._last]
        alarms = (drawn * ~self._member).cumsum(1)[:, self._last]
        members, others = hits[:, -1], alarms[:, -1]
        named = np.where(alarms <= self._rate * others[:, None], hits, 0.0).max(1)
        return np.where((members > 0) & (others > 0), named / np.maximum(members, 1), np.nan)


@register
@dataclass(frozen=True, kw_only=True)
class TruePositivesAtOnePercent(TruePositivesAt):
    """At a false positive rate of 1 %."""

    name: str = "tpr-at-1"
    label: str = "TPR at FPR 1 %"
    meaning: str = "share of the members identified while at most 1 % of the non-members are"
    undefined: str = "needs 100 non-members"
    order: int = 90
    rate: float = 0.01


@register
@dataclass(frozen=True, kw_only=True)
class TruePositivesAtOnePerMille(TruePositivesAt):
    """At a false positive rate of 0.1 %."""

    name: str = "tpr-at-0.1"
    label: str = "TPR at FPR 0.1 %"
    meaning: str = "share of the members identified while at most 0.1 % of the non-members are"
    undefined: str = "needs 1,000 non-members"
    order: int = 100
    rate: float = 0.001


@register
@dataclass(frozen=True, kw_only=True)
class PrecisionAtFullRecall(Measure):
    """Share of members among the records identified, when no member may be missed: Melis et al., table II.

    Chance is the share of members among all records.

    References
    ----------
    Melis, Song, De Cristofaro, Shmatikov, "Exploiting Unintended Feature Leakage in Collaborative Learning", S&P 2019.
    """

    name: str = "precision-at-recall-1"
    label: str = "Precision at recall 1"
    meaning: str = "share of members among the records identified, when no member may be missed"
    low: float = 0.0
    high: float = 1.0
    percent: bool = True
    order: int = 110
    applies_to: GuessKind = "member"

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score probabilities (n, 2) of being a member against labels (n,), 1 for members."""
        check_probabilities(guess, truth)
        member, scores = truth == 1, guess[:, 1].astype(np.float64)

        def precision(weights: Floats) -> Doubles:
            least = np.where((weights > 0) & member, scores, np.inf).min(1)
            named = weights * (scores >= least[:, None])
            return np.asarray((named * member).sum(1) / np.where(np.isfinite(least), named.sum(1), np.nan))

        return weighted_score(self.name, precision, len(guess), rng, chance=float(member.mean()))


def membership_scores(probabilities: Floats, truth: npt.NDArray[np.int64], rng: np.random.Generator) -> list[Score]:
    """AUC, TPR at FPR 1 % and 0.1 %, and precision at full recall of guesses (n, 2) of membership (n,), 1 for members.

    Raises
    ------
    ValueError
        Shapes differ, there are no rows, or a guess is not finite.
    """
    measures: tuple[Measure, ...] = (
        AreaUnderCurve(),
        TruePositivesAtOnePercent(),
        TruePositivesAtOnePerMille(),
        PrecisionAtFullRecall(),
    )
    return [measure(probabilities, truth, one) for measure, one in zip(measures, rng.spawn(4), strict=True)]
