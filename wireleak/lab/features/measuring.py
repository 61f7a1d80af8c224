"""Measure the shared model's features in each cell with a malicious participant that names an attribute."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from pydantic import Field

from wireleak.lab.data.dataset import Attribute, Dataset, Ints
from wireleak.lab.features.network import features_of
from wireleak.lab.features.places import mapped
from wireleak.lab.features.separation import UnmeasuredError, probe_auc, silhouette
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.division import Division
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.ranked import FeatureMap
from wireleak.lab.run.results import Record, Task
from wireleak.lab.run.scored import kept_record, key_of

# More examples make silhouettes slow, and maps unreadable.
_MOST_EXAMPLES, _MOST_MAPPED = 2000, 400
_T = TypeVar("_T")


class Measured(Record):
    """Figures of the features of one cell or more, and reasons of missing ones."""

    tasks: list[Task] = Field(default_factory=list)
    maps: list[FeatureMap] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


def measure_features(
    cells: Sequence[Cell], dataset: Dataset, divisions: Mapping[tuple[str, int], Division]
) -> Measured:
    """Measure the features of every cell with a malicious participant that has an option `attribute`.

    The features are the inputs of the last linear layer of the last round's global model, in evaluation mode. The
    examples are the clients' evaluation examples and the victims'. Examples on which a client trained, or that the
    attacker holds, are left out. The map is made for the first seed of each variant. Figures that were kept for the
    same weights and examples are not computed again.

    Parameters
    ----------
    cells : sequence of Cell
    dataset : Dataset
    divisions : mapping
        The division of the data, by variant and seed.

    Returns
    -------
    Measured
        `feature-probe`, `feature-silhouette` and `feature-silhouette-task` of each such cell, and the maps.
    """
    found = Measured()
    first: dict[str, int] = {}
    for cell in cells:
        first[cell.variant.name] = min(first.get(cell.variant.name, cell.seed), cell.seed)
    for cell in cells:
        if (attribute := _steered(cell, dataset)) is None:
            continue
        rows = unseen(divisions[cell.variant.name, cell.seed])
        one = _kept(cell, dataset, attribute, rows, cell.seed == first[cell.variant.name])
        found.tasks += one.tasks
        found.maps += one.maps
        found.notes += one.notes
    return found


def unseen(division: Division) -> Ints:
    """Return the clients' evaluation examples and the victims', without any that clients trained on or attackers hold.

    Returns
    -------
    int64 (n,)
        Rows of the data set, in order; at most 2,000.
    """
    held = [shard.evaluation for shard in division.shards]
    known = [shard.train for shard in division.shards]
    rows = np.setdiff1d(
        np.concatenate([*held, division.roles.victims]), np.concatenate([*known, division.roles.attacker])
    )
    return _some(rows, _MOST_EXAMPLES)


def _some(rows: Ints, most: int) -> Ints:
    """Return at most so many rows in their order, drawn by a fixed seed."""
    return np.asarray(np.sort(np.random.default_rng(0).permutation(rows)[:most]), np.int64)


def _steered(cell: Cell, dataset: Dataset) -> Attribute | None:
    """Return the attribute that the cell's malicious participant names, if any."""
    named = cell.variant.participant.options.get("attribute") if cell.variant.participant else None
    return dataset.attributes.get(named) if isinstance(named, str) else None


def _kept(cell: Cell, dataset: Dataset, attribute: Attribute, rows: Ints, mapping: bool) -> Measured:
    by = cell.study.data.disjoint_by
    groups = None if by is None else dataset.group(by)[rows]
    parts = (dataset.x[rows], dataset.y[rows], attribute.values[rows], *([] if groups is None else [groups]))
    content = hashlib.sha256(b"".join(hashlib.sha256(part.tobytes()).digest() for part in parts)).hexdigest()
    weights = [cell.checkpoint(part, cell.plan.rounds) for part in ("encoder", "head")]
    key = key_of([*weights, RunFolder(cell.run).study], attribute.name, content, str(mapping))
    return kept_record(
        cell.scores("features").with_suffix(".json"),
        key,
        Measured,
        lambda: _measure(cell, dataset, attribute, rows, groups, mapping),
    )


def _measure(
    cell: Cell, dataset: Dataset, attribute: Attribute, rows: Ints, groups: Ints | None, mapping: bool
) -> Measured:
    found = Measured()
    values, labels = attribute.values[rows], dataset.y[rows]

    def tried(name: str, measure: Callable[[], _T]) -> _T | None:
        try:
            return measure()
        except UnmeasuredError as error:
            found.notes.append(f"{cell.name}: {name} is missing: {error}.")
            return None

    def add(measure: str, value: float, n: int, majority: float = math.nan) -> None:
        shared = {"variant": cell.variant.name, "seed": cell.seed, "link": cell.variant.seen_as}
        found.tasks.append(
            Task(**shared, measure=measure, value=value, n=n, rounds=cell.plan.rounds, majority=majority)
        )

    features = tried("every figure of the features", lambda: features_of(cell, rows, dataset.inputs))
    if features is None:
        return found
    if (probe := tried("the probe of the features", lambda: probe_auc(features, values, groups))) is not None:
        add("feature-probe", *probe, majority=0.5)
    for measure, by in (("feature-silhouette", values), ("feature-silhouette-task", labels)):
        if (value := tried(f"the {measure}", lambda by=by: silhouette(features, by))) is not None:  # type: ignore[misc]
            add(measure, value, len(rows))
    if mapping:
        shown = _some(np.arange(len(rows)), _MOST_MAPPED)
        places = tried("the map of the features", lambda: mapped(features[shown]))
        one = FeatureMap(
            variant=cell.variant.name,
            seed=cell.seed,
            attribute=attribute.name,
            task=dataset.task,
            honest=cell.variant.participant is not None and cell.variant.participant.options.get("alpha") == 0,
            property_classes=list(attribute.classes),
            task_classes=list(dataset.classes),
        )
        if places is not None:
            one.x, one.y = places[:, 0].tolist(), places[:, 1].tolist()
            one.values, one.labels = values[shown].tolist(), labels[shown].tolist()
        found.maps.append(one)
    return found
