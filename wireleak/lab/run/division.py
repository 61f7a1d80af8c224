"""Divide a data set among the parties, for one seed."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wireleak.lab.data import Dataset, load
from wireleak.lab.data.dataset import Ints
from wireleak.lab.data.overlap import find_overlap, refuse_overlap
from wireleak.lab.data.partition import Shard, shards
from wireleak.lab.data.roles import Roles, Turn, assign_roles
from wireleak.lab.data.stream import ScarceError, plain_stream, property_stream
from wireleak.lab.study.schema import Study
from wireleak.lab.study.tables import Variant

# An author's texts are dealt by posts of up to thirty passages: one client in thirty gets too few of them for a batch.
_DRAWS = 10


@dataclass(frozen=True)
class Division:
    """The examples of each party with one seed."""

    roles: Roles
    shards: list[Shard]
    # Training examples and their rounds by client; empty where every round sees the whole shard.
    streams: list[tuple[Ints, Ints]]
    # Number of examples that roles in `data.overlap` share with others, by "role and other".
    overlaps: dict[str, int]


@dataclass(frozen=True)
class DivisionSeed:
    """The seed of a division, and its turn among those of the run's other seeds."""

    seed: int
    turn: Turn | None = None


def read_dataset(study: Study, folder: Path | None, dataset: Dataset | None = None) -> Dataset:
    """Return the study's data set with its task and its binary attributes; `dataset` is not read again.

    Raises
    ------
    DataError
        It is missing or broken, or has no such attribute.
    """
    data = study.data
    found = load(data.name, folder, **data.options) if dataset is None else dataset
    if data.task is not None and data.task != found.task:
        found = found.with_task(data.task)
    for name, of in data.binary.items():
        found = found.with_binary(name, of.attribute, of.classes)
    return found


def divide(study: Study, dataset: Dataset, variant: Variant, seeded: DivisionSeed) -> Division:
    """Give each party its examples; draw again where a client got too few for a batch of its stream.

    Raises
    ------
    StudyError, DataError
        There are too few examples, or two parties would share one.
    """
    for draw in range(_DRAWS - 1):
        with suppress(ScarceError):
            return _divide(study, dataset, variant, replace(seeded, seed=seeded.seed + draw))
    return _divide(study, dataset, variant, replace(seeded, seed=seeded.seed + _DRAWS - 1))


def _divide(study: Study, dataset: Dataset, variant: Variant, seeded: DivisionSeed) -> Division:
    data, clients, seed = study.data, study.clients_of(variant), seeded.seed
    roles = assign_roles(
        dataset,
        clients=data.train,
        evaluation=data.evaluation,
        attacker=data.attacker,
        victims=data.victims,
        disjoint_by=data.disjoint_by,
        only=data.only,  # type: ignore[arg-type]
        overlap=data.overlap,
        seed=seed,
        turn=seeded.turn,
    )
    held = shards(dataset, roles, clients, data.partition, alpha=data.alpha, by=data.by, seed=seed)
    parts = {f"client-{index}": dataset.x[shard.train] for index, shard in enumerate(held)}
    parts["evaluation"] = dataset.x[roles.evaluation]
    parts |= {"attacker": dataset.x[roles.attacker], "victims": dataset.x[roles.victims]}
    meant = {name for name in parts if ("clients" if name.startswith("client-") else name) in data.overlap}
    refuse_overlap({name: x for name, x in parts.items() if name not in meant})
    return Division(roles, held, _streams(study, dataset, variant, held, seed), _overlaps(parts, meant))


def _streams(study: Study, dataset: Dataset, variant: Variant, held: list[Shard], seed: int) -> list[tuple[Ints, Ints]]:
    """Return the examples of each client and round; the victim of a property stream is client 1, or a lone client 0."""
    stream, rounds = study.stream_of(variant), study.plan_of(variant).rounds
    if stream is None:
        return []
    drawn = []
    for number, shard in enumerate(held):
        rng = np.random.default_rng([seed, number])
        if stream.property is None:
            drawn.append(plain_stream(shard.train, rounds, stream.batch, rng))
            continue
        has = dataset.attribute(stream.property).values[shard.train] == 1
        rate = stream.rate if number == min(1, len(held) - 1) else 0.0
        drawn.append(property_stream(shard.train, has, rounds, stream.batch, rng, share=stream.share, rate=rate))
    return drawn


def _overlaps(parts: dict[str, Any], meant: set[str]) -> dict[str, int]:
    """Return how many examples each part that may overlap shares with other parts, if any."""
    pairs = [(one, other) for one in sorted(meant) for other in parts if other != one]
    counts = {f"{one} and {other}": find_overlap(parts[other], parts[one]).count for one, other in pairs}
    return {pair: count for pair, count in counts.items() if count}


def shared_by_seeds(divisions: list[Division], groups: Ints | None) -> dict[str, float]:
    """Return the mean share of one seed's examples, victims and persons that another seed has too.

    Repeated examples were dropped by the hash of their content, so equal indices mean equal examples.

    Parameters
    ----------
    divisions : list of Division
        One a seed.
    groups : int64 (examples,) or None
        The person of each example, if the study separates parties by person.
    """
    every = [
        np.concatenate([one.roles.clients, one.roles.evaluation, one.roles.attacker, one.roles.victims])
        for one in divisions
    ]
    held = {"examples": every, "victims": [one.roles.victims for one in divisions]}
    if groups is not None:
        held["persons"] = [np.unique(groups[rows]) for rows in every]
        held["victims' persons"] = [np.unique(groups[one.roles.victims]) for one in divisions]
    return {name: _mean_share(sets) for name, sets in held.items()} if len(divisions) > 1 else {}


def _mean_share(sets: list[Ints]) -> float:
    pairs = itertools.permutations(sets, 2)
    return float(np.mean([len(np.intersect1d(one, other)) / max(len(np.unique(one)), 1) for one, other in pairs]))
