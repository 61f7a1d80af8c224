"""The verdicts on leakage and the rules that give them. Runs, audits, comparisons of defences and pages share them.

"Leaks" needs the attack's interval clear of chance and of every baseline. "No leak above x" is an equivalence
statement: x is the upper end of the attack's 95 % interval, and it lies within the measure's margin. All else is "Not
resolved", also where an attack read less than the study promised. Both silent verdicts state the smallest effect that
the design would call a leak with probability 0.8.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from wireleak.common.measures import quantity
from wireleak.common.measures.statistics.power import detectable
from wireleak.lab.report.boards import Board, above_chance, compare, paired_difference

Outcome = Literal["leak", "part", "open", "bounded"]
# The gravest first: a silent attack that shows too little is graver than one that shows that little leaks.
TAGS: dict[Outcome, str] = {
    "leak": "Leaks",
    "part": "Leaks in part",
    "open": "Not resolved",
    "bounded": "No leak above",
}
# An error is judged by the share of the baseline's error that is removed.
_REMOVED = "mse"


@dataclass(frozen=True)
class Level:
    """A value of a measure, in the words of verdicts; of an error, the share of the baseline's that is removed.

    `gain` is how much of it exceeds what is known without the traffic.
    """

    measure: str
    value: float
    gain: float = math.nan

    @property
    def written(self) -> str:
        """The level as text."""
        if self.measure == _REMOVED:
            return f"{quantity('reid').write(self.value)} of the error"
        return f"{quantity(self.measure).label} {quantity(self.measure).write(self.value)}"


@dataclass(frozen=True)
class Verdict:
    """One verdict: its outcome, what leaks at most (`above`), and the smallest effects that the design could show."""

    outcome: Outcome
    above: tuple[Level, ...] = ()
    smallest: tuple[Level, ...] = ()

    @property
    def tag(self) -> str:
        """The verdict in a few words."""
        return " ".join([TAGS[self.outcome], *([_joined(self.above)] if self.outcome == "bounded" else [])])

    @property
    def silent(self) -> bool:
        """Whether no leak was found."""
        return self.outcome in ("open", "bounded")

    @property
    def resolution(self) -> str:
        """The smallest effects that the design could show, as a sentence; "" where they are not known."""
        if not self.silent or not self.smallest:
            return ""
        if all(_impossible(level) for level in self.smallest):
            return "This design could not have shown any leak."
        shown = _joined(level for level in self.smallest if not _impossible(level))
        return f"The smallest leak that this design shows with probability 0.8: {shown}."


def leak(outcome: Literal["leak", "part"] = "leak") -> Verdict:
    """Return the verdict on an attack that leaks, or leaks in part."""
    return Verdict(outcome)


def silent(board: Board, names: Sequence[str]) -> Verdict:
    """Return the verdict on an attack that is not shown to leak by any of these measures."""
    judged = [name for name in names if board.get(name)]
    levels = [_level(board, name) for name in judged]
    smallest = tuple(small for name in judged if (small := _smallest(board, name)) is not None)
    # Under TLS it is the point that nothing is read; elsewhere, what was not read may leak.
    partly = board.link != "tls" and any(score.incomplete for score in board.scores)
    if levels and all(map(_within, levels)) and not partly:
        return Verdict("bounded", tuple(level for level in levels if level is not None), smallest)
    return Verdict("open", smallest=smallest)


def of_interval(measure: str, low: float, high: float, floor: float) -> Outcome:
    """Return the outcome of an interval of a score that rises with leakage, against the score of guessing."""
    if low > floor:
        return "leak"
    return "bounded" if high <= floor + quantity(measure).margin else "open"


def gravest(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the gravest of several verdicts; silent ones are merged, each measure with its largest level."""
    every = list(verdicts)
    order = list(TAGS)
    grave: Outcome = min((one.outcome for one in every), key=order.index, default="open")
    alike = [one for one in every if one.outcome == grave]
    return Verdict(
        grave,
        _largest(level for one in alike for level in one.above),
        _largest(level for one in alike for level in one.smallest),
    )


def beats_priors(board: Board, name: str) -> bool:
    """Return whether the attack lies clear of chance and of every baseline; False where there is neither."""
    score, priors = board.get(name), board.priors(name)
    if score is None or (not priors and score.chance is None):
        return False
    return above_chance(score) and all(compare(score, prior) == "better" for prior in priors)


def _level(board: Board, name: str) -> Level | None:
    """Return what leaks at most: the measure at the leakier end of its interval over what is known without the traffic.

    Of several baselines the one counts that leaves the least to the attack.
    """
    score, how = board.get(name), quantity(name)
    if score is None:
        return None
    sign = 1 if how.higher_leaks else -1
    end = score.high if how.higher_leaks else score.low
    gains: list[tuple[float, float]] = [] if score.chance is None else [(sign * (end - score.chance), score.chance)]
    for prior in board.priors(name):
        paired = paired_difference(score, prior)
        if paired is not None:
            gains.append((paired[1] if how.higher_leaks else -paired[0], prior.value))
        else:
            gains.append((sign * (end - (prior.low if how.higher_leaks else prior.high)), prior.value))
    known = [(gain, level) for gain, level in gains if not math.isnan(gain)]
    if not known:
        return None
    gain, level = min(known)
    if how.higher_leaks:
        return Level(name, level + max(gain, 0.0), gain)
    return Level(name, max(gain, 0.0) / level, gain / level) if level > 0 else None


def _within(level: Level | None) -> bool:
    """Return whether a level exceeds what is known without the traffic by no more than the measure's margin."""
    # A comparison with NaN is false: without a margin nothing is within it.
    return level is not None and level.gain <= quantity(level.measure).margin


def _smallest(board: Board, name: str) -> Level | None:
    """Return the smallest score that this design would call a leak with probability 0.8; None if it is not known."""
    score, priors, higher = board.get(name), board.priors(name), quantity(name).higher_leaks
    if score is None:
        return None
    needed: list[float] = []
    sign = 1 if higher else -1
    own = (score.high - score.low) / 2
    # A bootstrap's interval is as wide as a normal one.
    behind = 1 if score.draws else score.seeds
    if score.chance is not None:
        needed.append(score.chance + sign * detectable(own, behind))
    for prior in priors:
        paired = paired_difference(score, prior)
        half = own + (prior.high - prior.low) / 2 if paired is None else (paired[1] - paired[0]) / 2
        needed.append(prior.value + sign * detectable(half, behind))
    if not needed or any(map(math.isnan, needed)):
        return None
    if higher:
        return Level(name, max(needed))
    known = min(prior.value for prior in priors)
    return Level(name, 1 - min(needed) / known) if known > 0 else None


def _impossible(level: Level) -> bool:
    return level.value >= (1.0 if level.measure == _REMOVED else quantity(level.measure).high)


def _largest(levels: Iterable[Level]) -> tuple[Level, ...]:
    found: dict[str, Level] = {}
    for level in levels:
        if level.measure not in found or level.value > found[level.measure].value:
            found[level.measure] = level
    return tuple(found.values())


def _joined(levels: Iterable[Level]) -> str:
    return ", ".join(level.written for level in levels)
