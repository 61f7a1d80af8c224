"""Compare defences: the accuracy, leakage and cost of each setting against the strongest of several fresh attackers.

The strongest attacker of a seed has the lowest loss on its own held-out examples. Choosing by its score on the victims
would overstate the attackers, because only the scorer knows the ground truth.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from wireleak.common.measures import quantity
from wireleak.common.measures.statistics.bootstrap import difference, over_seeds
from wireleak.common.measures.statistics.several import p_value, resolved
from wireleak.common.reads import MARK, Marked, together
from wireleak.common.targets.input import Input
from wireleak.lab.report.boards import BLIND, error_removed
from wireleak.lab.report.verdicts import TAGS, Outcome, of_interval
from wireleak.lab.run.results import Fit, Results, Row, VariantSummary

NONE = "none"
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """A mean over seeds with its 95 % interval; no interval (NaN) with one seed.

    `p` is the probability of a mean this far from zero, on either side, if the true mean is zero; NaN with one seed.
    """

    value: float
    low: float
    high: float
    p: float = field(default=math.nan, compare=False)

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        least: float = -math.inf,
        most: float = math.inf,
        draws: Sequence[Doubles | None] = (),
    ) -> Spread:
        """Return the spread of one value for each seed, its interval clipped to [least, most].

        Parameters
        ----------
        values : sequence of float
        least, most : float
        draws : sequence of float64 (resamples,), optional
            Resampled values of each seed. With them the interval is that of the crossed bootstrap, else Student's t.
        """
        mean = float(np.mean(values))
        if len(values) < 2:
            return cls(mean, math.nan, math.nan)
        found = over_seeds(values, draws)
        return cls(mean, max(found.low, least), min(found.high, most), p_value(mean, found.error, found.freedom))


@dataclass(frozen=True)
class Point(Marked):
    """One setting of one defence against attackers of one target.

    Parameters
    ----------
    variant, title, defence : str
    strength : float
        Value of the swept parameter; NaN where there is no sweep.
    accuracy, leak : Spread
        Accuracy of the main task, and score of the strongest fresh attacker.
    lost, gained : Spread
        Accuracy without the defence minus accuracy with it, and the same for the leak, paired by seed.
    attacker : str
        The attacker that was strongest in most seeds.
    own : str
        Metrics that the defence's own adversary reported in training, if it has one.
    device_seconds : float
        CPU time of a client's training in the last round, mean over clients and seeds; NaN if not measured.
    bytes : float
        Sent by the device for one inference, mean over seeds, gRPC framing included.
    guarantee : str
        Guarantee against every attacker, or empty.
    elsewhere : str
        Guarantee about something that these attackers do not target, or empty.
    front : bool
        Whether no other setting is both more accurate and less leaky.
    helps : bool
        Whether it lowers the leak, corrected by Holm's method for the number of settings of the comparison.
    incomplete : str
        What its strongest attackers read where the study promised more; else empty.
    """

    variant: str
    title: str
    defence: str
    strength: float
    accuracy: Spread
    leak: Spread
    lost: Spread
    gained: Spread
    attacker: str
    own: str
    device_seconds: float
    bytes: float
    guarantee: str
    elsewhere: str = ""
    front: bool = False
    helps: bool = False
    incomplete: str = ""

    @property
    def holds(self) -> str:
        """The guarantees against every attacker, then those about something else."""
        return "; ".join(filter(None, (self.guarantee or "nothing", self.elsewhere)))


@dataclass(frozen=True)
class Comparison:
    """Every setting against attackers of one target; `floor` is the score of guessing."""

    target: str
    leak: str
    floor: float
    attackers: tuple[str, ...]
    seeds: int
    points: tuple[Point, ...]

    @property
    def notes(self) -> list[str]:
        """Notes that say what marked scores rest on."""
        return [f"{MARK} {one.title}: {one.incomplete}" for one in self.points if one.incomplete]

    @property
    def baseline(self) -> Point:
        """The point without a defence."""
        return next(point for point in self.points if point.defence == NONE)

    @property
    def highest(self) -> float:
        """The highest leak that still counts as none: guessing, and the measure's margin."""
        return self.floor + quantity(self._measure).margin

    def outcome(self, point: Point) -> Outcome:
        """Return the verdict on the leak that is left in one setting."""
        return of_interval(self._measure, point.leak.low, point.leak.high, self.floor)

    def written(self, outcome: Outcome) -> str:
        """Return a verdict as text."""
        return TAGS[outcome] + (f" {self.highest:g}" if outcome == "bounded" else "")

    @property
    def _measure(self) -> str:
        return "auc" if self.leak == "AUC" else "mse"


@dataclass(frozen=True)
class _Choice:
    """The attacker of one seed with the least loss on its own held-out examples, and its score on the victims."""

    loss: float
    attacker: str
    value: float
    draws: Doubles | None
    incomplete: str = ""


def compare_defences(results: Results) -> list[Comparison]:
    """Return one comparison for each target; empty unless the study names defences, with "none" among them."""
    variants = [one for one in results.variants if one.defence]
    targets = list(dict.fromkeys(row.target for row in results.rows if not row.target.endswith("-unseen")))
    if not any(one.defence == NONE for one in variants):
        return []
    return [found for target in targets if (found := _comparison(results, variants, target)) is not None]


def _comparison(results: Results, variants: Sequence[VariantSummary], target: str) -> Comparison | None:
    rows = [row for row in results.rows if row.target == target and row.link == "plaintext"]
    fits = {(one.variant, one.seed, one.attack, one.target): one for one in results.fits}
    leaks = {variant.name: _leaks(rows, fits, variant.name, target) for variant in variants}
    found = [variant for variant in variants if leaks[variant.name]]
    base = next((one.name for one in found if one.defence == NONE), None)
    if base is None:
        return None
    tasks = {(one.variant, one.seed): one for one in results.tasks if one.measure == "accuracy"}
    points = []
    for variant in found:
        chosen, name = leaks[variant.name], variant.name
        seeds = [seed for seed in chosen if (name, seed) in tasks]
        paired = [seed for seed in seeds if seed in leaks[base] and (base, seed) in tasks]
        if not paired:
            continue
        points.append(
            Point(
                variant=name,
                title=variant.title or name,
                defence=variant.defence,
                strength=variant.strength,
                accuracy=Spread.of(
                    [tasks[name, seed].value for seed in seeds], 0, 1, [tasks[name, seed].draws for seed in seeds]
                ),
                leak=Spread.of(
                    [chosen[seed].value for seed in seeds],
                    -math.inf if target == Input.name else 0,
                    1,
                    [chosen[seed].draws for seed in seeds],
                ),
                lost=Spread.of(
                    [tasks[base, seed].value - tasks[name, seed].value for seed in paired],
                    draws=[difference(tasks[base, seed].draws, tasks[name, seed].draws) for seed in paired],
                ),
                gained=Spread.of(
                    [leaks[base][seed].value - chosen[seed].value for seed in paired],
                    draws=[difference(leaks[base][seed].draws, chosen[seed].draws) for seed in paired],
                ),
                attacker=Counter(chosen[seed].attacker for seed in seeds).most_common(1)[0][0],
                own=_own(results, variant),
                device_seconds=_mean(
                    [one.value for one in results.tasks if (one.variant, one.measure) == (name, "device-seconds")]
                ),
                bytes=_bytes(results, rows, name),
                guarantee="; ".join(variant.proved),
                elsewhere=_elsewhere(results, variant),
                incomplete=together(one.incomplete for one in chosen.values()),
            )
        )
    is_input = target == Input.name
    attackers = tuple(dict.fromkeys(row.attack for row in rows if row.role == "attack" and row.variant == base))
    attackers += ("linear",) * (is_input and any(row.name == "ridge" for row in rows))
    measured = "error removed" if is_input else "AUC"
    marked = tuple(_marked(_helping(points)))
    return Comparison(target, measured, 0.0 if is_input else 0.5, attackers, len(leaks[base]), marked)


def _leaks(
    rows: Sequence[Row], fits: Mapping[tuple[str, int, str, str], Fit], variant: str, target: str
) -> dict[int, _Choice]:
    """Return by seed the attacker with the lowest loss on its own held-out examples, and its score on the victims."""
    names = tuple(BLIND) if target == Input.name else ("auc",)
    own = [row for row in rows if row.variant == variant and row.measure in names]
    chosen: dict[int, _Choice] = {}
    for row in own:
        # The linear decoder is stored as a reader, but it counts as one of the attackers.
        linear = row.name == "ridge"
        fit = fits.get((row.variant, row.seed, row.attack, row.target))
        loss = math.nan
        if fit is not None and (linear or row.role == "attack"):
            loss = fit.ridge_loss if linear else fit.held_out_loss
        if math.isnan(loss) or math.isnan(row.value):
            continue
        value, attacker, draws = row.value, "linear" if linear else row.attack, row.draws
        if target == Input.name:
            same = (row.attack, row.seed, BLIND[row.measure])
            blind = next(one for one in own if (one.attack, one.seed, one.name) == same)
            value, draws = error_removed(row.measure, value, blind.value), _removed(row, blind)
        choice = _Choice(loss, attacker, value, draws, row.incomplete)
        chosen[row.seed] = min(chosen.get(row.seed, choice), choice, key=lambda one: (one.loss, one.attacker))
    return dict(sorted(chosen.items()))


def _removed(row: Row, blind: Row) -> Doubles | None:
    """Return the resampled shares of a constant guess's error that a reconstruction removes."""
    if row.draws is None or blind.draws is None:
        return None
    pairs = zip(row.draws, blind.draws, strict=True)
    return np.array([error_removed(row.measure, own, prior) for own, prior in pairs])


def _helping(points: Sequence[Point]) -> list[Point]:
    """Return the points, with those marked that lower the leak, corrected for the number of settings."""
    defended = [point for point in points if point.defence != NONE]
    shown = dict(zip((one.variant for one in defended), resolved([one.gained.p for one in defended]), strict=True))
    return [replace(one, helps=shown.get(one.variant, False) and one.gained.low > 0) for one in points]


def _own(results: Results, variant: VariantSummary) -> str:
    """Return the metrics that the defence's own adversary reported in the last round."""
    reported: dict[str, list[float]] = {}
    for one in results.tasks:
        if one.variant == variant.name and one.measure.startswith("own/"):
            reported.setdefault(one.measure.rpartition("/")[2], []).append(one.value)
    return ", ".join(f"{name} {_mean(values):.3f}" for name, values in reported.items())


def _elsewhere(results: Results, variant: VariantSummary) -> str:
    """Return DP-SGD's guarantee, which covers training examples and not the inputs that these attackers target."""
    spent = [one.value for one in results.tasks if (one.variant, one.measure) == (variant.name, "epsilon")]
    if variant.privacy is None or not spent:
        return ""
    return f"ε {max(spent):.3g}, δ {variant.privacy.delta:g} for one training example; this does not cover these inputs"


def _bytes(results: Results, rows: Sequence[Row], variant: str) -> float:
    inputs = max((row.n for row in rows if row.variant == variant), default=0)
    served = [wire.bytes_up for wire in results.wires if (wire.variant, wire.link_name) == (variant, "serve-victim")]
    return _mean(served) / inputs if inputs else math.nan


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _marked(points: Sequence[Point]) -> list[Point]:
    """Return the points, with those on the Pareto front marked."""

    def beaten(one: Point) -> bool:
        return any(
            other.accuracy.value >= one.accuracy.value
            and other.leak.value <= one.leak.value
            and (other.accuracy.value, other.leak.value) != (one.accuracy.value, one.leak.value)
            for other in points
        )

    return [replace(one, front=not beaten(one)) for one in points]
