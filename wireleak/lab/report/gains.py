"""Variants against the variant that a study names for them: differences paired by seed, corrected for their number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from wireleak.common.measures import PERCENT, column_order, quantity
from wireleak.common.measures.statistics.bootstrap import difference
from wireleak.common.measures.statistics.several import resolved
from wireleak.lab.report.defences import Spread
from wireleak.lab.run.results import Results, Row, Task

_ACCURACY = "accuracy"


@dataclass(frozen=True)
class Gain:
    """A variant's score less that of its reference, over the seeds that both ran.

    Parameters
    ----------
    variant, against : str
        Names of the two variants.
    attack, target : str
        Empty for a measure of training.
    measure : str
    value, reference : float
        Means over the shared seeds.
    spread : Spread
        Of the difference, paired by seed and victim.
    seeds : int
    shown : bool
        Whether the difference is not zero, by Holm's method over all differences of the study.
    """

    variant: str
    against: str
    attack: str
    target: str
    measure: str
    value: float
    reference: float
    spread: Spread
    seeds: int
    shown: bool = False

    @property
    def named(self) -> str:
        """The measure, and of which attack on which target."""
        label = quantity(self.measure).label
        return f"{label}, {self.target} by {self.attack}" if self.attack else label

    @property
    def ours(self) -> str:
        """The variant's mean, as text."""
        return quantity(self.measure).write(self.value)

    @property
    def theirs(self) -> str:
        """The reference's mean, as text."""
        return quantity(self.measure).write(self.reference)

    @property
    def written(self) -> str:
        """The difference with its sign and interval."""
        how = quantity(self.measure)
        value, low, high = (self._signed(number) for number in (self.spread.value, self.spread.low, self.spread.high))
        interval = f" [{low}, {high}]" if math.isfinite(self.spread.low) else ""
        return f"{value}{interval}{' points' if how.percent else ''}"

    def _signed(self, number: float) -> str:
        text = quantity(self.measure).write(number).removesuffix(PERCENT)
        return text if text.startswith("−") else f"+{text}"


def gains(results: Results) -> list[Gain]:
    """Return the differences of attacks' first measures and of accuracy, in the order of the variants."""
    found = [
        gain
        for variant in results.variants
        if variant.against
        for gain in (*_scores(results, variant.name, variant.against), *_tasks(results, variant.name, variant.against))
    ]
    shown = resolved([gain.spread.p for gain in found])
    return [replace(gain, shown=one) for gain, one in zip(found, shown, strict=True)]


def _scores(results: Results, variant: str, against: str) -> Iterator[Gain]:
    """Compare each attack with the same attack there, or with the only one on that target."""
    own = [row for row in results.rows if row.role == "attack"]
    here = dict.fromkeys((row.attack, row.target) for row in own if row.variant == variant)
    there = [row for row in own if row.variant == against]
    for attack, target in here:
        rivals = sorted({row.attack for row in there if row.target == target})
        rival = attack if attack in rivals else rivals[0] if len(rivals) == 1 else None
        if rival is None:
            continue
        rows = [row for row in own if (row.variant, row.attack, row.target) == (variant, attack, target)]
        measure = min((row.measure for row in rows), key=column_order)
        others = [row for row in there if (row.attack, row.target) == (rival, target)]
        yield from _paired(
            {row.seed: row for row in rows if row.measure == measure},
            {row.seed: row for row in others if row.measure == measure},
            variant=variant,
            against=against,
            attack=attack,
            target=target,
            measure=measure,
        )


def _tasks(results: Results, variant: str, against: str) -> Iterator[Gain]:
    """Compare what the network can do."""
    scores = [task for task in results.tasks if task.measure == _ACCURACY]
    here, there = ({one.seed: one for one in scores if one.variant == name} for name in (variant, against))
    yield from _paired(here, there, variant=variant, against=against, attack="", target="", measure=_ACCURACY)


def _paired(ours: Mapping[int, Row | Task], theirs: Mapping[int, Row | Task], **named: Any) -> Iterator[Gain]:
    pairs = [(ours[seed], theirs[seed]) for seed in sorted(ours) if seed in theirs]
    if not pairs:
        return
    spread = Spread.of(
        [one.value - other.value for one, other in pairs],
        draws=[difference(one.draws, other.draws) for one, other in pairs],
    )
    yield Gain(
        **named,
        value=fmean(one.value for one, _ in pairs),
        reference=fmean(other.value for _, other in pairs),
        spread=spread,
        seeds=len(pairs),
    )
