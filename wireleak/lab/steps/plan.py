"""Check a whole study before any process starts, and divide its data among the parties."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wireleak.common.files import write_atomically, write_json
from wireleak.common.models import build
from wireleak.common.models.factory import resolve
from wireleak.common.registry import unknown
from wireleak.common.targets.label import Label
from wireleak.common.targets.registry import TARGETS, target_of
from wireleak.common.threat import PARTICIPANTS
from wireleak.common.traffic import Traffic
from wireleak.lab.data import Dataset
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.division import Division, divide, read_dataset
from wireleak.lab.run.folders import new_folder
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.seeds import SECRET, Seeds
from wireleak.lab.steps.attack import find_attack
from wireleak.lab.study.schema import Study, StudyError
from wireleak.lab.study.tables import AttackUse


@dataclass(frozen=True)
class Plan:
    """A study that can run: its data, and its division among the parties for each seed."""

    study: Study
    dataset: Dataset
    seeds: Seeds
    # By variant and seed; variants with the same division share one object.
    divisions: dict[tuple[str, int], Division]

    def cells(self, folder: Path) -> list[Cell]:
        """Return every variant with every seed, grouped by variant."""
        shape, classes = self.dataset.input_shape, len(self.dataset.classes)
        return [
            Cell(self.study, variant, seed, folder, shape, classes, self.seeds)
            for variant in self.study.variants
            for seed in self.study.seeds_of(variant)
        ]

    @property
    def first(self) -> Division:
        """The division of the first variant with its lowest seed."""
        variant = self.study.variants[0]
        return self.divisions[variant.name, min(self.study.seeds_of(variant))]

    def parts(self, division: Division) -> dict[str, int]:
        """Return the number of examples of each party."""
        counts = {f"client-{index}": len(shard.train) for index, shard in enumerate(division.shards)}
        counts["evaluation"] = sum(len(shard.evaluation) for shard in division.shards)
        return counts | {"attacker": len(division.roles.attacker), "victims": len(division.roles.victims)}

    def summary(self) -> dict[str, Any]:
        """Return the resolved plan, for plan.json."""
        return {
            "study": self.study.model_dump(mode="json"),
            # Whether noise that protects comes from the system, or follows from the secret that the user gave.
            "noise": "secret" if self.seeds.repeated else "system",
            "data": self.dataset.source,
            "task": self.dataset.task,
            "classes": {self.dataset.task: self.dataset.classes}
            | {name: held.classes for name, held in self.dataset.attributes.items()},
            "parts": {f"{name}-seed{seed}": self.parts(held) for (name, seed), held in self.divisions.items()},
            "duplicates_dropped": self.first.roles.duplicates,
            "overlaps": {f"{name}-seed{seed}": held.overlaps for (name, seed), held in self.divisions.items()},
        }


def repeats(plan: Path) -> bool:
    """Return whether the run with this plan.json repeats another: its noise follows from a secret that a user gave."""
    return bool(json.loads(plan.read_text()).get("noise") == "secret")


def make_plan(
    study: Study,
    data: Path | None = None,
    seeds: int | None = None,
    dataset: Dataset | None = None,
    secret: Seeds | None = None,
) -> Plan:
    """Load the data, divide it, and check everything that needs no process.

    Parameters
    ----------
    study : Study
    data : Path, optional
        Folder that holds data sets.
    seeds : int, optional
        Run with seeds 0 to seeds - 1 instead of the study's.
    dataset : Dataset, optional
        The study's data with its task, if it has been read already.
    secret : Seeds, optional
        The run's secret; by default a new one.

    Raises
    ------
    StudyError, DataError
        The study cannot run; the message names the first problem.
    """
    study = _resolve_models(with_seeds(study, seeds))
    dataset = read_dataset(study, data, dataset)
    _check_model(study, dataset)
    drawn = secret or Seeds.draw()
    made: dict[str, Division] = {}
    divisions = {}
    for variant in study.variants:
        for seed in study.seeds_of(variant):
            stream = study.stream_of(variant)
            alike = f"{seed} {study.clients_of(variant)} {stream} {study.plan_of(variant).rounds if stream else ''}"
            if alike not in made:
                made[alike] = divide(study, dataset, variant, drawn.division(seed))
            divisions[variant.name, seed] = made[alike]
    return Plan(study, dataset, drawn, divisions)


def with_seeds(study: Study, seeds: int | None) -> Study:
    """Return the study with the seeds 0 to seeds - 1 in every variant; None keeps its own."""
    if seeds is None:
        return study
    variants = tuple(variant.model_copy(update={"seeds": None}) for variant in study.variants)
    return study.model_copy(update={"seeds": tuple(range(seeds)), "variants": variants})


def check_attacks(plan: Plan, described: dict[str, dict[str, Any]]) -> None:
    """Refuse an attack that is unknown, or that needs more than the threat model grants.

    Parameters
    ----------
    plan : Plan
    described : dict
        The adversary's descriptions of its attacks, by name.

    Raises
    ------
    StudyError
        The message names the attack and the missing grant.
    """
    check_participants(plan.study)
    threat = plan.study.threat
    for use in plan.study.attacks:
        where = f"attacks.{use.shown}"
        vantage = use.vantage or threat.vantage
        attack = find_attack(described, use.name, where)
        # A malicious participant can do everything that an honest-but-curious one can.
        stands = {vantage, "participant"} if vantage == "malicious-participant" else {vantage}
        if not stands & set(attack["threat"]["vantage"]):
            works = " or ".join(attack["threat"]["vantage"])
            raise StudyError(f"{where}: the attack works from {works}, but its vantage is {vantage}")
        for grant in ("sees", "knows"):
            given = {"nothing", *getattr(threat, grant)}
            missing = [need for need in attack["threat"][grant] if need not in given]
            if missing:
                raise StudyError(
                    f"{where}: needs {missing[0]!r}, which threat.{grant} does not grant; grant it or drop the attack"
                )
        _check_devices(plan.study, use, Traffic(attack["reads"]))
        for target in use.targets:
            _check_target(plan, where, target, attack["targets"])
        _check_captures(plan.study, use, where, Traffic(attack["reads"]), attack["mode"])
        _check_rounds(plan.study, use, where, Traffic(attack["reads"]))
        strange = set(use.options) - set(attack["options"].get("properties", {}))
        if strange:
            name = sorted(strange)[0]
            known = attack["options"].get("properties", {})
            raise StudyError(f"{where}.options.{name}: {unknown('option', name, known)}")


def _check_rounds(study: Study, use: AttackUse, where: str, traffic: Traffic) -> None:
    if use.rounds is None:
        return
    if traffic is not Traffic.FEDERATED_TRAINING:
        raise StudyError(f"{where}.rounds: the attack does not read updates; remove rounds")
    (first, last), most = use.rounds, min(study.plan_of(one).rounds for one in study.variants)
    if not first <= last <= most:
        raise StudyError(f"{where}.rounds: {first} to {last} are no rounds of a training of {most}; give [first, last]")


def _check_devices(study: Study, use: AttackUse, traffic: Traffic) -> None:
    for device in study.devices:
        if device.role == "train":
            continue
        shares = use.variants is None or device.variants is None or set(use.variants) & set(device.variants)
        if traffic is not Traffic.SERVING and shares and use.shown in (device.attacks or (use.shown,)):
            raise StudyError(
                f"devices.{device.name}.attacks: {use.shown} does not read inference traffic; list only attacks that do"
            )


def _check_captures(study: Study, use: AttackUse, where: str, traffic: Traffic, trains: str) -> None:
    for variant in study.variants:
        if variant not in [one for one in study.variants if use in study.attacks_on(one)]:
            continue
        mode = study.plan_of(variant).mode
        if traffic is not Traffic.SERVING and study.model.trained:
            raise StudyError(f"{where}: the attack reads training, but model.trained = true; nobody trains")
        if traffic is Traffic.SERVING and not study.serve.devices:
            raise StudyError(f"{where}: the attack reads inference traffic, but serve.devices = false; set it to true")
        if traffic is Traffic.SPLIT_TRAINING and mode != "split":
            raise StudyError(f'{where}: the attack reads split training; set mode = "split" in variants.{variant.name}')
        if traffic is not Traffic.FEDERATED_TRAINING:
            continue
        vantage = use.vantage or study.threat.vantage
        if mode != trains:
            parts = {"federated": "whole networks", "split": "encoders"}[trains]
            raise StudyError(
                f"{where}: the attack reads updates of {parts}; set variants.{variant.name}.mode to {trains}"
            )
        if variant.engine == "simulation" and vantage != "server":
            raise StudyError(f'{where}: {variant.name} is a simulation and has no links; set vantage = "server"')
        if variant.engine == "in-process" and vantage != "server" and vantage not in PARTICIPANTS:
            raise StudyError(
                f'{where}: {variant.name} trains in one process and has no links; set vantage = "server", '
                '"participant" or "malicious-participant"'
            )
        if variant.encrypted and vantage == "link":
            raise StudyError(f'{where}: {variant.name} encrypts its links; set vantage = "server" or "participant"')
        if vantage in PARTICIPANTS and study.clients_of(variant) < 2:
            raise StudyError(
                f"{where}: a participant attacks other clients, but variants.{variant.name} has only one; add clients"
            )
        if study.plan_of(variant).secure and vantage in ("link", "gateway", "server"):
            raise StudyError(
                f"{where}: the attack needs each client's update, but secure aggregation in variants.{variant.name} "
                'shows only their sum; set vantage = "participant" or drop the attack there'
            )


def check_participants(study: Study) -> None:
    """Refuse targets that need a malicious participant in variants without one, or an honest one in others."""
    for variant in study.variants:
        for use in study.attacks_on(variant):
            for target in use.targets:
                needed, name = target_of(target).participant, variant.participant and variant.participant.name
                if needed not in (None, name):
                    raise StudyError(
                        f"attacks.{use.shown}.variants: no client of {variant.name} plants numbers; set its "
                        f'participant = {{ name = "{needed}" }}'
                    )
                if target == Label.name and variant.participant:
                    raise StudyError(
                        f"attacks.{use.shown}.variants: the malicious participant of {variant.name} sends labels of "
                        "its own choice, which nobody scores; list variants without participant"
                    )


def _check_target(plan: Plan, where: str, target: str, kind: str) -> None:
    sought, guessed = target_of(target), TARGETS.get(kind)
    if not isinstance(sought, guessed):
        raise StudyError(f"{where}.targets: the attack guesses {guessed.guessed}, not {target!r}")
    if sought.attribute is None:
        return
    if target not in plan.dataset.attributes:
        listed = unknown("attribute", target, plan.dataset.attributes)
        raise StudyError(f"{where}.targets: {plan.dataset.name} has {listed}")
    devices = plan.study.serve.devices
    for (_, seed), division in plan.divisions.items():
        values = plan.dataset.attributes[target].values
        # Without serving devices, the victims are the clients that train.
        attacked = ("victims", division.roles.victims) if devices else ("clients", division.roles.clients)
        for role, rows in (("attacker", division.roles.attacker), attacked):
            if len(np.unique(values[rows])) < 2:
                raise StudyError(
                    f"{where}.targets: {target} has one class among the {role} of seed {seed}, so nothing can be "
                    f"learnt; raise data.{role} or choose another attribute"
                )


def _resolve_models(study: Study) -> Study:
    """Return the study with names of user networks that every process finds from any folder."""
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
            weights = study.weights_of(variant, study.seeds_of(variant)[0])
            network = build(name, dataset.input_shape, len(dataset.classes), 0, weights)
        except ValueError as error:
            raise StudyError(f"{field}: {error}") from error
        if variant.cut not in network.cuts:
            choices = f"{network.cuts.start} to {network.cuts.stop - 1}"
            raise StudyError(f"variants.{variant.name}.cut: {network.name} has no cut {variant.cut}; choose {choices}")
        if study.plan_of(variant).privacy is None:
            continue
        from wireleak.common.models.private import unfit

        if (reason := unfit(network.blocks)) is not None:
            raise StudyError(f"variants.{variant.name}.privacy: {network.name}: {reason}")


def run_seeds(secret: Path | None, resume: Path | None) -> Seeds:
    """Return the secret of a run that is resumed or repeated, or a new one.

    Parameters
    ----------
    secret : Path, optional
        File that `--secret` names.
    resume : Path, optional
        Folder of the run to continue.

    Raises
    ------
    StudyError
        This is no run's folder, it has another secret, or a file holds no secret.
    """
    run = None if resume is None else RunFolder(resume)
    if run is not None and not run.study.is_file():
        raise StudyError(f"--resume: {resume} is not a run's folder (no {run.study.name}); give the folder of a run")
    if run is None:
        return Seeds.given_or_drawn(secret)
    if not run.plan.is_file():  # an audit has prepared it, and trained a network by its division
        return Seeds.read(run.secret, "--resume", repeated=bool(os.environ.get(SECRET)))
    kept = Seeds.read(run.secret, "--resume", repeated=repeats(run.plan))
    if secret is not None and Seeds.read(secret, "--secret", repeated=True).secret != kept.secret:
        raise StudyError(f"--secret: {secret} is not the secret of {resume}; leave --secret out")
    return kept


def open_folder(plan: Plan, out: Path, source: Path, resume: Path | None) -> Path:
    """Make the folder of a new run, or open that of one to continue, and write the study, its plan and its secret.

    Raises
    ------
    StudyError
        The run to continue is of another study or has more seeds, or the folder cannot be written.
    """
    try:
        return _open_folder(plan, out, source, resume)
    except OSError as error:
        where = f"--resume: {resume}" if resume is not None else f"--out: {out}"
        why = error.strerror or error
        raise StudyError(f"{where} cannot be written: {why}; free space, or change its rights") from error


def _open_folder(plan: Plan, out: Path, source: Path, resume: Path | None) -> Path:
    if resume is not None:
        kept = RunFolder(resume).study
        if kept.read_bytes() != source.read_bytes():
            raise StudyError(f"--resume: {source} has changed since that run; resume with {kept} instead")
        captured = {cell.folder.name for cell in RunFolder(resume).captured()}
        if left_out := sorted(captured - {cell.name for cell in plan.cells(resume)}):
            raise StudyError(
                f"--seeds: {resume} already contains {left_out[-1]}, which fewer seeds would drop from the report; "
                "raise --seeds"
            )
        plan.seeds.write(RunFolder(resume).secret)
        # The run may now have more seeds than at its start.
        write_json(RunFolder(resume).plan, plan.summary())
        return resume.resolve()
    with new_folder(out, plan.study.name) as folder:
        plan.seeds.write(RunFolder(folder).secret)
        write_json(RunFolder(folder).plan, plan.summary())
        # The last one: with it the folder is a run's, and can be continued.
        write_atomically(RunFolder(folder).study, source.read_bytes())
    return folder
