"""The design of a study as its statistics see it: seeds, victims, and the persons that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.auc import AreaUnderCurve
from wireleak.common.measures.scores.priors import conditional_probabilities
from wireleak.common.targets.input import Input
from wireleak.common.targets.label import Label
from wireleak.common.targets.member import Member
from wireleak.common.targets.registry import target_of
from wireleak.common.threat import PARTICIPANTS, Vantage
from wireleak.lab.data import Dataset
from wireleak.lab.data.roles import Turn
from wireleak.lab.run.division import Division, DivisionSeed, divide, read_dataset
from wireleak.lab.study.schema import Study
from wireleak.lab.study.tables import Variant

Ints = npt.NDArray[np.int64]
# Below this, an AUC of the task label counts as none: it is the spread of two halves of a few hundred victims.
_TELLS = 0.55


@dataclass(frozen=True)
class Design:
    """What one private target of a study is scored on.

    Parameters
    ----------
    targets : tuple of str
        Targets that share this design.
    measure : {"auc", "reid"}
        Their headline measure.
    seeds : int
    victims : int
        Scored guesses of one seed: victims' inputs, records, or updates.
    persons : int or None
        Persons behind them, where the study keeps persons apart; None where each guess counts for itself.
    share : float
        Share of the rarer class of a target that is an attribute; of several classes, of one of them.
    classes : int
        Values of the target.
    constant : bool
        Whether all guesses of a person have the same true value.
    common : float
        Share of the units (persons or victims) that two seeds have in common.
    known : float
        AUC of the majority given the task label, where that tells the value; a leak must beat it. 0 elsewhere.
    """

    targets: tuple[str, ...]
    measure: str
    seeds: int
    victims: int
    persons: int | None = None
    share: float = 0.5
    classes: int = 2
    constant: bool = False
    common: float = 0.0
    known: float = 0.0

    def resized(self, seeds: int | None = None, victims: int | None = None) -> Design:
        """Return this design with other numbers; persons grow with the victims."""
        wanted = victims or self.victims
        persons = None if self.persons is None else max(2, round(self.persons * wanted / self.victims))
        return replace(self, seeds=seeds or self.seeds, victims=wanted, persons=persons)


def designs(study: Study, data: Path | None = None) -> list[Design]:
    """Return the designs of a study's targets that AUC or re-identification judges; equal ones are merged.

    Raises
    ------
    StudyError, DataError
        The data cannot be read or divided; one line.
    """
    dataset = read_dataset(study, data)
    return planned(study, dataset, lambda variant: divide(study, dataset, variant, DivisionSeed(0, Turn(0, 0))))


def planned(study: Study, dataset: Dataset, division: Callable[[Variant], Division]) -> list[Design]:
    """Return the designs of a study whose data are read; `division` is that of a variant's first seed."""
    merged: dict[Design, tuple[str, ...]] = {}
    for variant in study.variants:
        if variant.encrypted:
            continue
        for one in _of_variant(study, dataset, variant, division(variant)):
            key = replace(one, targets=())
            merged[key] = tuple(dict.fromkeys((*merged.get(key, ()), *one.targets)))
    return [replace(key, targets=targets) for key, targets in merged.items()]


def _of_variant(study: Study, dataset: Dataset, variant: Variant, division: Division) -> Iterator[Design]:
    seeds, victims = len(study.seeds_of(variant)), division.roles.victims
    by = study.data.disjoint_by
    people = None if by is None else dataset.group(by)
    persons = None if people is None else len(np.unique(people[victims]))
    everyone = len(dataset.y) if people is None else len(np.unique(people))
    common = round((len(victims) if persons is None else persons) / everyone, 2)
    others = not study.data.only and not study.data.overlap and seeds * (persons or len(victims)) <= everyone
    for name, vantage, rounds in _attacked(study, variant):
        target = target_of(name)
        if isinstance(target, Member):
            both = None if persons is None else 2 * persons
            senders = target.senders(len(division.shards), participant=variant.participant is not None)
            members, strangers = _records(study, division, senders)
            share = max(round(min(members, strangers) / (members + strangers), 2), 0.01)
            yield Design((name,), "auc", seeds, members + strangers, both, share, constant=True, common=common)
        elif isinstance(target, Input) and study.serve.devices:
            yield Design((name,), "reid", seeds, len(victims), persons, common=0.0 if others else common)
        elif isinstance(target, Label):
            plan = study.plan_of(variant)
            if plan.mode == "split":
                labels = np.tile(dataset.y[division.roles.clients], plan.rounds * plan.epochs)
                yield _of_values(name, seeds, labels)
        elif target.attribute in dataset.attributes:
            values = dataset.attributes[target.attribute].values
            if study.serve.devices:
                whose = None if people is None else people[victims]
                known = _told(values[victims], dataset.y[victims])
                made = _of_values(name, seeds, values[victims], whose)
                yield replace(made, common=0.0 if others else common, known=known)
            else:
                yield _of_values(name, seeds, *_of_updates(study, variant, division, name, values, vantage, rounds))


def _records(study: Study, division: Division, senders: list[int]) -> tuple[int, int]:
    """Return the numbers of members, of these senders, and of non-members about which attacks are asked."""
    if study.data.nonmembers is None:
        return len(division.roles.victims), len(division.roles.victims)
    return sum(len(division.shards[sender].train) for sender in senders), study.data.nonmembers


def _attacked(study: Study, variant: Variant) -> list[tuple[str, str, range]]:
    """Return each target of a variant's attacks with the attacker's vantage and rounds, without repetition."""
    found = []
    for use in study.attacks_on(variant):
        rounds = study.plan_of(variant).attacked(use.rounds)
        found += [(name, use.vantage or study.threat.vantage, rounds) for name in use.targets]
    return list(dict.fromkeys(found))


def _of_values(name: str, seeds: int, values: Ints, people: Ints | None = None) -> Design:
    """Return the design of a target with these true values; `people` says whose each is."""
    counts = np.bincount(values)
    classes = max(int((counts > 0).sum()), 2)
    share = 1 / classes if classes > 2 else float(counts.min()) / len(values)
    return Design(
        targets=(name,),
        measure="auc",
        seeds=seeds,
        victims=len(values),
        persons=None if people is None else len(np.unique(people)),
        share=max(round(share, 1), 0.05),
        classes=classes,
        constant=people is not None and constant_by(values, people),
    )


def _of_updates(
    study: Study, variant: Variant, division: Division, name: str, values: Ints, vantage: str, rounds: range
) -> tuple[Ints, Ints | None]:
    """Return the true value of each update that is attacked, and its sender where a sender has one value in all rounds.

    For the property of a stream: whether any example of the round has it. Otherwise: the most frequent value.
    """
    everyone = range(study.clients_of(variant))
    clients = target_of(name).senders(len(everyone), participant=variant.participant is not None)
    # A participant sees the others' updates combined, a malicious server those of all.
    combined = {**dict.fromkeys(PARTICIPANTS, everyone[1:]), Vantage.MALICIOUS_SERVER: everyone}.get(Vantage(vantage))
    held = [shard.train for shard in division.shards]
    stream = study.stream_of(variant)
    found, senders = [], []
    for sender, part in enumerate([[client] for client in clients] if combined is None else [combined]):
        for number in rounds:
            streams = [division.streams[client] for client in part] if division.streams else []
            rows = [rows[when == number] for rows, when in streams] or [held[client] for client in part]
            seen = values[np.concatenate(rows)]
            streamed = stream is not None and stream.property == name
            found.append(int((seen == 1).any()) if streamed else int(np.bincount(seen).argmax()))
            senders.append(sender)
    truth, whose = np.array(found, np.int64), np.array(senders, np.int64)
    return truth, whose if combined is None and constant_by(truth, whose) else None


def _told(values: Ints, task: Ints) -> float:
    """Return the AUC of the majority given the task label, rounded; 0 where the task label tells nothing."""
    guess = conditional_probabilities(values, task, classes=int(values.max()) + 1)
    found = AreaUnderCurve()(guess, values, np.random.default_rng(0)).value
    return round(found, 2) if found >= _TELLS else 0.0


def constant_by(values: Ints, people: Ints) -> bool:
    """Return whether all rows of each person have the same value."""
    _, of_row = np.unique(people, return_inverse=True)
    first = np.full(int(of_row.max()) + 1, -1, np.int64)
    first[of_row] = values
    return bool((first[of_row] == values).all())
