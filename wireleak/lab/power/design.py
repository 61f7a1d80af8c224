"""The design of a study as its statistics see it: seeds, victims, and the persons that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wireleak.common.targets.input import Input
from wireleak.common.targets.label import Label
from wireleak.common.targets.member import Member
from wireleak.common.targets.registry import target_of
from wireleak.lab.data import Dataset, load
from wireleak.lab.steps.division import Division, divide
from wireleak.lab.study.schema import Study
from wireleak.lab.study.tables import Variant


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
    dataset = load(study.data.name, data, **study.data.options)
    if study.data.task is not None and study.data.task != dataset.task:
        dataset = dataset.with_task(study.data.task)
    merged: dict[Design, tuple[str, ...]] = {}
    for variant in study.variants:
        if variant.encrypted:
            continue
        division = divide(study, dataset, variant, 0)
        for one in _of_variant(study, dataset, variant, division):
            key = replace(one, targets=())
            merged[key] = tuple(dict.fromkeys((*merged.get(key, ()), *one.targets)))
    return [replace(key, targets=targets) for key, targets in merged.items()]


def _of_variant(study: Study, dataset: Dataset, variant: Variant, division: Division) -> Iterator[Design]:
    seeds, victims = len(study.seeds_of(variant)), division.roles.victims
    by = study.data.disjoint_by
    people = None if by is None else dataset.group(by)
    persons = None if people is None else len(np.unique(people[victims]))
    everyone = len(dataset.y) if people is None else len(np.unique(people))
    common = (len(victims) if persons is None else persons) / everyone
    for name in dict.fromkeys(target for use in study.attacks_on(variant) for target in use.targets):
        target = target_of(name)
        if isinstance(target, Member):
            both = None if persons is None else 2 * persons
            yield Design((name,), "auc", seeds, 2 * len(victims), both, constant=True, common=common)
        elif isinstance(target, Input) and study.serve.devices:
            yield Design((name,), "reid", seeds, len(victims), persons, common=common)
        elif isinstance(target, Label) or target.attribute in dataset.attributes:
            if not study.serve.devices:
                updates = len(target.senders(study.clients_of(variant), participant=variant.participant is not None))
                yield Design((name,), "auc", seeds, updates * study.plan_of(variant).rounds)
                continue
            values = dataset.y if target.attribute is None else dataset.attributes[target.attribute].values
            values = values[victims]
            counts = np.bincount(values)
            classes = max(int((counts > 0).sum()), 2)
            share = 1 / classes if classes > 2 else float(counts.min()) / len(values)
            constant = people is not None and _is_constant(values, people[victims])
            yield Design(
                targets=(name,),
                measure="auc",
                seeds=seeds,
                victims=len(victims),
                persons=persons,
                share=max(round(share, 1), 0.05),
                classes=classes,
                constant=constant,
                common=round(common, 2),
            )


def _is_constant(values: np.ndarray[tuple[int], np.dtype[np.int64]], people: object) -> bool:
    _, of_row = np.unique(np.asarray(people), return_inverse=True)
    first = np.full(int(of_row.max()) + 1, -1, np.int64)
    first[of_row] = values
    return bool((first[of_row] == values).all())
