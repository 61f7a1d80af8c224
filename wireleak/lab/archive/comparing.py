"""Compare two runs: each score of the attackers and of the main task, with the interval of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from wireleak.common.measures import quantity
from wireleak.lab.report.boards import SeedMean, compare, paired_difference, summarise, task_means
from wireleak.lab.run.results import Results

Verdict = Literal[
    "A leaks more", "B leaks more", "A is higher", "B is higher", "not resolved", "only in A", "only in B"
]
TASK = "main task"


@dataclass(frozen=True)
class Difference:
    """One score in both runs.

    Parameters
    ----------
    variant, target, attack, measure : str
        `target` is "main task" for the model's own accuracy or loss.
    first, second : SeedMean or None
        The score in run A and in run B; None where a run lacks it.
    low, high : float or None
        95 % interval of A - B, paired by seed; None with fewer than three seeds in common.
    verdict : Verdict
        Without a paired interval, a difference is shown where the two intervals do not overlap.
    """

    variant: str
    target: str
    attack: str
    measure: str
    first: SeedMean | None
    second: SeedMean | None
    low: float | None
    high: float | None
    verdict: Verdict

    @property
    def written(self) -> str:
        """A - B and its interval as text, "" where there is none."""
        if self.first is None or self.second is None:
            return ""
        how = quantity(self.measure)
        value = how.write(self.first.value - self.second.value)
        if self.low is None or self.high is None:
            return value
        return f"{value} [{how.write(self.low)}, {how.write(self.high)}]"


def differences(first: Results, second: Results) -> list[Difference]:
    """Return every score of an attack, and of the main task, that either run holds; in the order of run A."""
    ours, theirs = _scores(first), _scores(second)
    return [_difference(key, ours.get(key), theirs.get(key)) for key in ours | theirs]


_Key = tuple[str, str, str, str, str]


def _difference(key: _Key, first: SeedMean | None, second: SeedMean | None) -> Difference:
    variant, _, target, attack, measure = key
    if first is None or second is None:
        verdict: Verdict = "only in B" if first is None else "only in A"
        return Difference(variant, target, attack, measure, first, second, None, None, verdict)
    low, high = paired_difference(first, second) or (None, None)
    return Difference(variant, target, attack, measure, first, second, low, high, _verdict(first, second))


def _verdict(first: SeedMean, second: SeedMean) -> Verdict:
    found = compare(first, second)
    if found == "overlap":
        return "not resolved"
    if first.target == TASK:
        higher = (found == "better") == quantity(first.measure).higher_leaks
        return "A is higher" if higher else "B is higher"
    return "A leaks more" if found == "better" else "B leaks more"


def _scores(results: Results) -> dict[_Key, SeedMean]:
    rows = [row for row in results.rows if row.role == "attack"]
    summaries: Sequence[SeedMean] = [*task_means(results, TASK), *summarise(rows)]
    return {(one.variant, one.vantage, one.target, one.attack, one.measure): one for one in summaries}
