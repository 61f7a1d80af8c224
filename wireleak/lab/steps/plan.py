"""Check a study whole before anything starts, and lay out what each party holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wireleak.common.models import build
from wireleak.common.models.factory import resolve
from wireleak.common.models.private import unfit
from wireleak.common.targets.registry import TARGETS, target_of
from wireleak.common.threat import PARTICIPANTS
from wireleak.common.traffic import Traffic
from wireleak.lab.data import Dataset, load
from wireleak.lab.run.cell import Cell
from wireleak.lab.steps.attack import find_attack
from wireleak.lab.steps.division import Division, divide
from wireleak.lab.study.schema import Study, StudyError
from wireleak.lab.study.tables import AttackUse


@dataclass(frozen=True)
class Plan:
    """A study that can run: its data, and who holds what with each seed."""

    study: Study
    dataset: Dataset
    # By variant and seed; variants that divide alike share one.
    divisions: dict[tuple[str, int], Division]

    def cells(self, folder: Path) -> list[Cell]:
        """Every variant with every seed, the seeds of one variant together."""
        shape, classes = self.dataset.input_shape, len(self.dataset.classes)
        return [
            Cell(self.study, variant, seed, folder, shape, classes)
            for variant in self.study.variants
            for seed in self.study.seeds_of(variant)
        ]

    @property
    def first(self) -> Division:
        """The first variant's with its least seed."""
        variant = self.study.variants[0]
        return self.divisions[variant.name, min(self.study.seeds_of(variant))]

    def parts(self, division: Division) -> dict[str, int]:
        """How many examples each party holds."""
        counts = {f"client-{index}": len(shard.train) for index, shard in enumerate(division.shards)}
        counts["evaluation"] = sum(len(shard.evaluation) for shard in division.shards)
        return counts | {"attacker": len(division.roles.attacker), "victims": len(division.roles.victims)}

    def summary(self) -> dict[str, Any]:
        """What was resolved, for plan.json."""
        return {
            "study": self.study.model_dump(mode="json"),
            "data": self.dataset.source,
            "task": self.dataset.task,
            "classes": {self.dataset.task: self.dataset.classes}
            | {name: held.classes for name, held in self.dataset.attributes.items()},
            "parts": {f"{name}-seed{seed}": self.parts(held) for (name, seed), held in self.divisions.items()},
            "duplicates_dropped": self.first.roles.duplicates,
            "overlaps": {f"{name}-seed{seed}": held.overlaps for (name, seed), held in self.divisions.items()},
        }


def make_plan(study: Study, data: Path | None = None, seeds: int | None = None) -> Plan:
    """Load the data, divide it, and check everything that needs no process.

    Parameters
    ----------
    study : Study
    data : Path, optional
        Folder that holds data sets.
    seeds : int, optional
        Run with seeds 0 to seeds - 1 instead of the study's.

    Raises
    ------
    StudyError, DataError
        The first thing that cannot be.
    """
    if seeds is not None:
        variants = tuple(variant.model_copy(update={"seeds": None}) for variant in study.variants)
        study = study.model_copy(update={"seeds": tuple(range(seeds)), "variants": variants})
    study = _resolve_models(study)
    dataset = load(study.data.name, data, **study.data.options)
    if study.data.task is not None and study.data.task != dataset.task:
        dataset = dataset.with_task(study.data.task)
    _check_model(study, dataset)
    made: dict[str, Division] = {}
    divisions = {}
    for variant in study.variants:
        for seed in study.seeds_of(variant):
            stream = study.stream_of(variant)
            alike = f"{seed} {study.clients_of(variant)} {stream} {study.plan_of(variant).rounds if stream else ''}"
            if alike not in made:
                made[alike] = divide(study, dataset, variant, seed)
            divisions[variant.name, seed] = made[alike]
    return Plan(study, dataset, divisions)


def check_attacks(plan: Plan, described: dict[str, dict[str, Any]]) -> None:
    """Refuse an attack that is unknown, or that needs what the threat model does not grant.

    Parameters
    ----------
    plan : Plan
    described : dict
        The adversary's own account of its attacks, by name.

    Raises
    ------
    StudyError
        Names the attack and what is missing.
    """
    check_participants(plan.study)
    threat = plan.study.threat
    for use in plan.study.attacks:
        where = f"attacks.{use.shown}"
        vantage = use.vantage or threat.vantage
        attack = find_attack(described, use.name, where)
        # Whoever takes part with code of its own can do what one can who only looks.
        stands = {vantage, "participant"} if vantage == "malicious-participant" else {vantage}
        if not stands & set(attack["threat"]["vantage"]):
            works = " or ".join(attack["threat"]["vantage"])
            raise StudyError(f"{where}: works from {works}, but its vantage is {vantage}")
        for grant in ("sees", "knows"):
            given = {"nothing", *getattr(threat, grant)}
            missing = [need for need in attack["threat"][grant] if need not in given]
            if missing:
                raise StudyError(
                    f"{where}: needs {missing[0]!r}, which threat.{grant} does not grant; grant it or drop the attack"
                )
        for target in use.targets:
            _check_target(plan, where, target, attack["targets"])
        _check_captures(plan.study, use, where, Traffic(attack["reads"]))
        unknown = set(use.options) - set(attack["options"].get("properties", {}))
        if unknown:
            known = ", ".join(attack["options"].get("properties", {})) or "none"
            raise StudyError(f"{where}.options.{sorted(unknown)[0]}: no such option; choose from {known}")


def _check_captures(study: Study, use: AttackUse, where: str, traffic: Traffic) -> None:
    for variant in study.variants:
        if variant not in [one for one in study.variants if use in study.attacks_on(one)]:
            continue
        mode = study.plan_of(variant).mode
        if traffic is Traffic.SERVING and not study.serve.devices:
            raise StudyError(f"{where}: reads what devices send, but serve.devices = false; allow them")
        if traffic is Traffic.SPLIT_TRAINING and mode != "split":
            raise StudyError(f'{where}: reads split training, but variants.{variant.name} is not mode = "split"')
        if traffic is not Traffic.FEDERATED_TRAINING:
            continue
        vantage = use.vantage or study.threat.vantage
        if mode != "federated":
            raise StudyError(f'{where}: reads updates of whole networks; set mode = "federated" in {variant.name}')
        if variant.engine == "simulation" and vantage != "server":
            raise StudyError(f'{where}: {variant.name} is a simulation and has no links; take vantage = "server"')
        if variant.encrypted and vantage == "link":
            raise StudyError(f'{where}: {variant.name} encrypts its links; take vantage = "server" or "participant"')
        if vantage in PARTICIPANTS and study.clients_of(variant) < 2:
            raise StudyError(f"{where}: a participant needs others to attack; variants.{variant.name} has one client")
        if study.plan_of(variant).secure and vantage in ("link", "gateway", "server"):
            raise StudyError(
                f"{where}: needs each client's update, and secure aggregation in variants.{variant.name} shows their "
                'sum alone; take vantage = "participant" or drop the attack there'
            )


def check_participants(study: Study) -> None:
    """Refuse to look for something that only a malicious participant puts there, where there is none."""
    for variant in study.variants:
        for use in study.attacks_on(variant):
            for target in use.targets:
                needed, name = target_of(target).participant, variant.participant and variant.participant.name
                if needed not in (None, name):
                    raise StudyError(
                        f"attacks.{use.shown}.variants: nobody plants numbers in {variant.name}; give it "
                        f'participant = {{ name = "{needed}" }}'
                    )


def _check_target(plan: Plan, where: str, target: str, kind: str) -> None:
    sought, guessed = target_of(target), TARGETS.get(kind)
    if not isinstance(sought, guessed):
        raise StudyError(f"{where}.targets: it guesses {guessed.guessed}, not {target!r}")
    if sought.attribute is None:
        return
    if target not in plan.dataset.attributes:
        known = ", ".join(plan.dataset.attributes)
        raise StudyError(f"{where}.targets: {plan.dataset.name} has no attribute {target!r}; choose from {known}")
    devices = plan.study.serve.devices
    for (_, seed), division in plan.divisions.items():
        values = plan.dataset.attributes[target].values
        # Where nobody asks for predictions, the victims are those who train.
        attacked = ("victims", division.roles.victims) if devices else ("clients", division.roles.clients)
        for role, rows in (("attacker", division.roles.attacker), attacked):
            if len(np.unique(values[rows])) < 2:
                raise StudyError(
                    f"{where}.targets: {target} has one class among the {role} of seed {seed}; nothing can be learnt "
                    f"of it: take more examples (data.{role}) or another attribute"
                )


def _resolve_models(study: Study) -> Study:
    """A user's own networks under names that every process finds, wherever it was started."""
    try:
        model = study.model.model_copy(update={"name": resolve(study.model.name)})
        variants = [
            one.model_copy(update={"model": resolve(one.model)}) if one.model is not None else one
            for one in study.variants
        ]
    except ValueError as error:
        raise StudyError(f"model.name: {error}") from error
    return study.model_copy(update={"model": model, "variants": tuple(variants)})


def _check_model(study: Study, dataset: Dataset) -> None:
    for variant in study.variants:
        name, field = study.model.name, "model.name"
        if variant.model is not None:
            name, field = variant.model, f"variants.{variant.name}.model"
        try:
            network = build(name, dataset.input_shape, len(dataset.classes), 0)
        except ValueError as error:
            raise StudyError(f"{field}: {error}") from error
        if variant.cut not in network.cuts:
            choices = f"{network.cuts.start} to {network.cuts.stop - 1}"
            raise StudyError(f"variants.{variant.name}.cut: {network.name} has no cut {variant.cut}; choose {choices}")
        if study.plan_of(variant).privacy and (reason := unfit(network.blocks)) is not None:
            raise StudyError(f"variants.{variant.name}.privacy: {network.name}: {reason}")
