"""Scores over seeds, and comparisons that their intervals support."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from wireleak.common.measures import PERCENT, column_order, quantity
from wireleak.common.measures.statistics.bootstrap import difference, over_seeds
from wireleak.common.reads import MARK, Marked, together
from wireleak.common.references import Role, reference, reference_order
from wireleak.common.targets.canary import Canary
from wireleak.common.words import counted
from wireleak.lab.run.results import Results, Row

Doubles = npt.NDArray[np.float64]
Verdict = Literal["better", "overlap", "worse"]
_PAIRED_SEEDS = 3
_ROUNDING = 1e-9
# Measures of reconstructions, each with the baseline that guesses the same for all victims.
BLIND = {"words-found": "commonest", "mse": "mean"}


@dataclass(frozen=True)
class SeedMean(Marked):
    """One score over all seeds, with the fields of `Row`; `chance` is None where it is not known.

    `incomplete` joins what single seeds read where it is less than the study promised.

    `seeds` is the number of seeds, `permutations` the least number of permutations in any of them. `by_seed` holds
    each seed with its value, so that scores can be paired, and `draws` its resampled values; empty for runs of older
    versions.
    """

    study: str
    variant: str
    link: str
    vantage: str
    attack: str
    target: str
    measure: str
    value: float
    low: float
    high: float
    n: int
    role: Role
    name: str
    seeds: int
    chance: float | None
    permutations: int = 0
    incomplete: str = ""
    by_seed: tuple[tuple[int, float], ...] = ()
    draws: Mapping[int, Doubles] = field(default_factory=dict, compare=False, repr=False)

    @property
    def label(self) -> str:
        """The label of a row that is not the attack's, with the number of permutations behind it."""
        drawn = f", {counted(self.permutations, 'draw')}" if self.permutations else ""
        return f"{reference(self.name).label}{drawn}"

    @property
    def written(self) -> str:
        """The value as text, with a mark where the guess rests on less than was promised."""
        return f"{quantity(self.measure).write(self.value)}{self.mark}"

    @property
    def interval(self) -> str:
        """The interval as `[low, high]`, or "" without one."""
        if math.isnan(self.low) or math.isnan(self.high):
            return ""
        how = quantity(self.measure)
        low, high = how.write(self.low), how.write(self.high)
        return f"[{low.removesuffix(PERCENT)}, {high.removesuffix(PERCENT)}]"


@dataclass(frozen=True)
class Board:
    """All scores of one attack on one target in one variant, with its baselines, readers and bounds."""

    variant: str
    link: str
    vantage: str
    attack: str
    target: str
    scores: tuple[SeedMean, ...]

    @property
    def measures(self) -> list[str]:
        """Measures of the board, headline first."""
        return sorted({score.measure for score in self.scores}, key=column_order)

    @property
    def names(self) -> list[str]:
        """Names of the rows, the attack's own ("") first."""
        return sorted({score.name for score in self.scores}, key=reference_order)

    def get(self, name: str, row: str = "") -> SeedMean | None:
        """Return a measure's score in the row of that name, by default the attack's own; None if absent."""
        return next((score for score in self.scores if score.measure == name and score.name == row), None)

    def priors(self, name: str) -> list[SeedMean]:
        """Return the scores of the baselines, which ignore this victim's traffic, strongest first."""
        found = [one for one in self.scores if one.measure == name and one.role == "baseline"]
        leakier = quantity(name).higher_leaks
        return sorted(found, key=lambda one: one.value, reverse=leakier)


def times_planted(board: Board) -> int | None:
    """Return how often a board's numbers were planted; None for other targets."""
    count = board.target.removeprefix(f"{Canary.name}-")
    return int(count) if count != board.target and count.isdecimal() and board.get("exposure") else None


def notes_of(scores: Iterable[Row | SeedMean]) -> list[str]:
    """Return the notes below a table that say what marked scores rest on, one for each variant and attack."""
    marked: dict[str, list[str]] = defaultdict(list)
    for one in scores:
        where = f"{one.variant}: {one.target} by {one.attack}"
        if one.incomplete and where not in marked[one.incomplete]:
            marked[one.incomplete].append(where)
    return [f"{MARK} {said} ({', '.join(where)})" for said, where in marked.items()]


def summarise(rows: Iterable[Row]) -> list[SeedMean]:
    """Return the mean over seeds of each score, with its 95 % interval.

    The interval is that of the crossed bootstrap over seeds and victims. Where no resamples are kept, it is Student's
    t, never narrower than the mean of the seeds' own intervals: otherwise seeds that share their victims would seem
    more certain than one of them. With one seed, it is that seed's interval. It is clipped to the range of the measure.
    Scores keep the order of their first rows.
    """
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        where = (row.study, row.variant, row.link, row.vantage, row.attack, row.target)
        groups[*where, row.measure, row.role, row.name].append(row)
    return [_over_seeds(group) for group in groups.values()]


def task_means(results: Results, target: str = "") -> list[SeedMean]:
    """Return the mean over seeds of each measure of training, as scores on `target`."""
    return summarise(
        Row(
            study=results.study,
            variant=task.variant,
            seed=task.seed,
            link=task.link,
            vantage="",
            attack="",
            target=target,
            measure=task.measure,
            value=task.value,
            n=task.n,
        )
        for task in results.tasks
    )


def _over_seeds(rows: Sequence[Row]) -> SeedMean:
    first = rows[0]
    values = np.array([row.value for row in rows], float)
    value = float(values.mean())
    low, high = (float(np.mean([getattr(row, end) for row in rows])) for end in ("low", "high"))
    draws = {row.seed: row.draws for row in rows if row.draws is not None}
    if len(rows) > 1 and np.isfinite(values).all():
        found = over_seeds(values, [row.draws for row in rows])
        if found.freedom is None:
            low, high = found.low, found.high
        else:
            low, high = float(np.fmin(low, found.low)), float(np.fmax(high, found.high))
    how = quantity(first.measure)
    low = low if math.isnan(low) else float(np.fmax(low, how.low))
    high = high if math.isnan(high) else float(np.fmin(high, how.high))
    shared = {name: getattr(first, name) for name in ("study", "variant", "link", "vantage", "attack", "target")}
    return SeedMean(
        **shared,
        measure=first.measure,
        value=value,
        low=low,
        high=high,
        n=max(row.n for row in rows),
        role=first.role,
        name=first.name,
        seeds=len(rows),
        permutations=min(row.permutations for row in rows),
        incomplete=together(row.incomplete for row in rows),
        by_seed=tuple(sorted((row.seed, row.value) for row in rows)),
        draws=draws,
        chance=None if any(math.isnan(row.chance) for row in rows) else float(np.mean([row.chance for row in rows])),
    )


def error_removed(name: str, value: float, blind: float) -> float:
    """Return the share of a constant guess's error that a reconstruction removes; 0 if that guess has no error.

    The error of values is their mean squared error. The error of texts is the share of their words that is not found.
    """
    own, prior = (1 - one if quantity(name).higher_leaks else one for one in (value, blind))
    return 1 - own / prior if prior > 0 else 0.0


def boards(rows: Iterable[Row]) -> list[Board]:
    """Return boards of scores over seeds: one for each variant, link, vantage, attack and target, in row order.

    Scores in windows of rounds have a chart of their own and stand on no board.
    """
    groups: dict[tuple[str, str, str, str, str], list[SeedMean]] = defaultdict(list)
    for one in summarise(row for row in rows if row.role != "window"):
        groups[one.variant, one.link, one.vantage, one.attack, one.target].append(one)
    return [Board(*name, tuple(scores)) for name, scores in groups.items()]


def compare(score: SeedMean, other: SeedMean) -> Verdict:
    """Return whether `score` leaks more than `other` ("better"), less ("worse"), or neither is shown ("overlap").

    With three or more seeds in common, the two are paired by seed, because a seed gives both the same network and
    victims. The 95 % interval of their difference must exclude zero. With fewer seeds, their intervals must not
    overlap; without intervals, nothing is shown.
    """
    difference = paired_difference(score, other)
    if difference is not None:
        low, high = difference
        higher, lower = low > 0, high < 0
    else:
        higher, lower = score.low > other.high, score.high < other.low
    if not (higher or lower):
        return "overlap"
    return "better" if higher == quantity(score.measure).higher_leaks else "worse"


def paired_difference(score: SeedMean, other: SeedMean) -> tuple[float, float] | None:
    """Return the 95 % interval of `score` - `other` over shared seeds; None with fewer than three.

    Both scores have the same resamples of victims, so the crossed bootstrap pairs them by victim too. Where no
    resamples are kept, the interval is Student's t.
    """
    ours, theirs = dict(score.by_seed), dict(other.by_seed)
    shared = [seed for seed in ours if seed in theirs]
    each = np.array([ours[seed] - theirs[seed] for seed in shared])
    if len(each) < _PAIRED_SEEDS or not np.isfinite(each).all():
        return None
    low, high, *_ = over_seeds(each, [difference(score.draws.get(seed), other.draws.get(seed)) for seed in shared])
    return low, high


def above_chance(score: SeedMean) -> bool:
    """Return whether the whole interval is better than chance; True if chance is unknown, False without an interval."""
    if score.chance is None:
        return True
    # A share of n victims that equals chance may lie above it by rounding.
    beyond = score.low - score.chance if quantity(score.measure).higher_leaks else score.chance - score.high
    return beyond > _ROUNDING
