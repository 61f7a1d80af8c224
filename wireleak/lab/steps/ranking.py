"""Rank the guesses of a binary private value: ROC curves, and the examples that an attack names best."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.targets.attribute import PrivateAttribute, Values
from wireleak.common.targets.member import PLANTED, Member
from wireleak.common.targets.target import OWN
from wireleak.lab.run.job import AttackJob
from wireleak.lab.run.pictures import Pictures
from wireleak.lab.run.ranked import Curve, Exposed, Rankings
from wireleak.lab.run.truth import CellTruth
from wireleak.lab.steps.score import named_guesses, read_meta, small

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SHOWN = 8
# A reader looks at low rates too, so half of the points lie below 10 %.
GRID = np.unique(np.concatenate([np.geomspace(1e-3, 1, 46), np.linspace(0, 1, 41)]).round(5))


@dataclass(frozen=True)
class _Ranking:
    """One attack's guesses of a binary value: scores (n,) of value 1, true values (n,), and what each row is."""

    job: AttackJob
    score: Doubles
    value: Ints
    units: Ints
    names: list[str]
    unit: str
    inputs: npt.NDArray[np.float32] | None


def ranked(jobs: Iterable[AttackJob]) -> tuple[Rankings, list[Pictures]]:
    """Return the ROC curve of each attack on a binary value, and over its seeds the worst-protected examples, pictured.

    Attacks on encrypted links, and those that could not run, are left out.
    """
    groups: dict[tuple[str, str, str], list[_Ranking]] = defaultdict(list)
    for job in jobs:
        if (one := _ranking(job)) is not None:
            groups[job.variant, job.use.shown, job.target].append(one)
    curves = [_curve(one) for group in groups.values() for one in group]
    found = [_exposed(group) for group in groups.values()]
    rankings = Rankings(curves=curves, exposed=[one for one, _ in found])
    return rankings, [picture for _, picture in found if picture is not None]


def roc(score: Doubles, value: Ints) -> tuple[Doubles, Doubles]:
    """Return the false- and true-positive rates (thresholds,) of naming all rows above each distinct score."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    hits = np.cumsum(value[order] == 1)[last]
    named = np.flatnonzero(last) + 1
    alarms = named - hits
    return np.append(0.0, alarms / max(alarms[-1], 1)), np.append(0.0, hits / max(hits[-1], 1))


def _ranking(job: AttackJob) -> _Ranking | None:
    meta = read_meta(job)
    if job.cell.variant.encrypted or meta["prior"]:
        return None
    guess = named_guesses(job.guesses, job.use.name)[OWN]
    truth = job.truth(federated=meta["training"] is not None)
    if guess.ndim != 2 or guess.shape[1] != 2:
        return None
    held = job.sought.ground_truth(truth)
    values = held.values if isinstance(held, Values) else held
    if not isinstance(values, np.ndarray) or values.shape != (len(guess),):
        return None
    rows = np.ones(len(guess), bool)
    if isinstance(job.sought, Member):
        rows = values < PLANTED  # an audit's canaries are nobody's examples
    if len(np.unique(values[rows])) != 2:
        return None
    units, names, unit = _named(job, truth, len(guess))
    inputs = None
    if unit == "example" and isinstance(job.sought, Member | PrivateAttribute):
        inputs = truth.records()["x"] if isinstance(job.sought, Member) else truth.victims("x")
        inputs = inputs[rows] if inputs.ndim == 4 else None
    names = [name for name, kept in zip(names, rows, strict=True) if kept]
    scores = guess[rows, 1].astype(np.float64)
    return _Ranking(job, scores, values[rows].astype(np.int64), units[rows], names, unit, inputs)


def _named(job: AttackJob, truth: CellTruth, count: int) -> tuple[Ints, list[str], str]:
    """Return the identity of each row, its name, and whether rows are persons, updates or examples."""
    seed, by, target = job.cell.seed, job.cell.study.data.disjoint_by, job.sought
    alone = np.arange(count) + seed * count
    if isinstance(target, Member):
        held, kind = truth.records().get("group"), "record"
    elif truth.federated and isinstance(target, PrivateAttribute):
        named = [f"seed {seed}, client {sender}, round {number}" for sender, number in truth.units()]
        return alone, named, "update"
    elif isinstance(target, PrivateAttribute):
        held, kind = None if by is None else truth.victims(f"group:{by}"), "victim"
    else:
        return alone, [f"seed {seed}, label {place}" for place in range(count)], "label"
    if held is not None:
        return held.astype(np.int64), [f"{by} {one}" for one in held], "person"
    own = truth.replicates()
    return alone if own is None else own, [f"seed {seed}, {kind} {place}" for place in range(count)], "example"


def _curve(one: _Ranking) -> Curve:
    fpr, tpr = roc(one.score, one.value)
    at = np.searchsorted(fpr, GRID + 1e-9, side="right") - 1
    others = len(np.unique(one.units[one.value == 0]))
    return Curve(
        variant=one.job.variant,
        attack=one.job.use.shown,
        target=one.job.target,
        seed=one.job.cell.seed,
        fpr=GRID.tolist(),
        tpr=tpr[at].round(4).tolist(),
        mean_tpr=np.interp(GRID, fpr, tpr).round(4).tolist(),
        least=1 / max(others, 1),
    )


def _exposed(group: Sequence[_Ranking]) -> tuple[Exposed, Pictures | None]:
    """Return the units with the highest mean probability of their true value, over all rows and seeds of each."""
    job = group[0].job
    held: dict[int, list[float]] = defaultdict(list)
    first: dict[int, tuple[_Ranking, int]] = {}
    for one in group:
        right = np.where(one.value == 1, one.score, 1 - one.score)
        # Who was not trained on has no membership to protect.
        rows = np.flatnonzero(one.value == 1) if isinstance(job.sought, Member) else range(len(right))
        for row in rows:
            held[int(one.units[row])].append(float(right[row]))
            first.setdefault(int(one.units[row]), (one, int(row)))
    mean = {unit: float(np.mean(found)) for unit, found in held.items()}
    best = sorted(mean, key=lambda unit: -mean[unit])[:SHOWN]
    names = [first[unit][0].names[first[unit][1]] for unit in best]
    inputs = [one.inputs[row] for one, row in (first[unit] for unit in best) if one.inputs is not None]
    exposed = Exposed(
        variant=job.variant,
        attack=job.use.shown,
        target=job.target,
        names=names,
        confidence=[round(mean[unit], 4) for unit in best],
        typical=round(float(np.median(list(mean.values()))), 4),
        of=len(mean),
        unit=group[0].unit,
        pictured=len(inputs) == len(best),
    )
    if not exposed.pictured:
        return exposed, None
    return exposed, Pictures(
        variant=job.variant,
        link=job.cell.variant.seen_as,
        seed=job.cell.seed,
        attack=job.use.shown,
        originals=small(np.stack(inputs).astype(np.float32)),
        guesses={},
        ink=job.cell.study.data.name in ("digits", "omniglot"),
        target=job.target,
    )
