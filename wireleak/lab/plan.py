"""Check a study whole before anything starts, and lay out what each party holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wireleak.data import Dataset, load
from wireleak.data.augment import augment
from wireleak.data.overlap import refuse_overlap
from wireleak.data.partition import Shard, shards
from wireleak.data.roles import Roles, assign_roles
from wireleak.files import write_arrays
from wireleak.lab.cell import DEVICES, UNTRAINED, Cell
from wireleak.lab.study import Study, StudyError
from wireleak.models import build, save_weights


@dataclass(frozen=True)
class Division:
    """Who holds which examples with one seed."""

    roles: Roles
    shards: list[Shard]


@dataclass(frozen=True)
class Plan:
    """A study that can run: its data, and who holds what with each seed."""

    study: Study
    dataset: Dataset
    divisions: dict[int, Division]

    def cells(self, folder: Path) -> list[Cell]:
        """Every variant with every seed, the seeds of one variant together."""
        shape, classes = self.dataset.input_shape, len(self.dataset.classes)
        return [
            Cell(self.study, variant, seed, folder, shape, classes)
            for variant in self.study.variants
            for seed in self.study.seeds_of(variant)
        ]

    def parts(self, seed: int) -> dict[str, int]:
        """How many examples each party holds."""
        division = self.divisions[seed]
        counts = {f"client-{index}": len(shard.train) for index, shard in enumerate(division.shards)}
        counts["evaluation"] = sum(len(shard.evaluation) for shard in division.shards)
        return counts | {"attacker": len(division.roles.attacker), "victims": len(division.roles.victims)}

    def summary(self) -> dict[str, Any]:
        """What was resolved, for plan.json."""
        return {
            "study": self.study.model_dump(mode="json"),
            "data": self.dataset.source,
            "task": self.dataset.task,
            "parts": {str(seed): self.parts(seed) for seed in self.divisions},
            "duplicates_dropped": next(iter(self.divisions.values())).roles.duplicates,
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
    dataset = load(study.data.name, data, **study.data.options)
    _check_model(study, dataset)
    used = sorted({seed for variant in study.variants for seed in study.seeds_of(variant)})
    return Plan(study, dataset, {seed: _divide(study, dataset, seed) for seed in used})


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
    threat = plan.study.threat
    for use in plan.study.attacks:
        where = f"attacks.{use.name}"
        if use.name not in described:
            raise StudyError(f"{where}: no attack of that name; choose from {', '.join(sorted(described))}")
        attack = described[use.name]
        if threat.vantage not in attack["threat"]["vantage"]:
            works = " or ".join(attack["threat"]["vantage"])
            raise StudyError(f"{where}: works from {works}, but threat.vantage is {threat.vantage}")
        for grant in ("sees", "knows"):
            missing = [need for need in attack["threat"][grant] if need not in getattr(threat, grant)]
            if missing:
                raise StudyError(
                    f"{where}: needs {missing[0]!r}, which threat.{grant} does not grant; grant it or drop the attack"
                )
        for target in use.targets:
            _check_target(plan, where, target, attack["targets"])
        unknown = set(use.options) - set(attack["options"].get("properties", {}))
        if unknown:
            known = ", ".join(attack["options"].get("properties", {})) or "none"
            raise StudyError(f"{where}.options.{sorted(unknown)[0]}: no such option; choose from {known}")


def _check_target(plan: Plan, where: str, target: str, kinds: str) -> None:
    if target == "input":
        if kinds != "input":
            raise StudyError(f"{where}.targets: it guesses attributes, not the input")
    elif kinds != "attribute":
        raise StudyError(f"{where}.targets: it guesses the input, not {target!r}")
    elif target not in plan.dataset.attributes:
        known = ", ".join(plan.dataset.attributes)
        raise StudyError(f"{where}.targets: {plan.dataset.name} has no attribute {target!r}; choose from {known}")


def write_cell(plan: Plan, cell: Cell) -> None:
    """Write every party's data into its own folder, and the ground truth into the sealed ledger."""
    dataset, division = plan.dataset, plan.divisions[cell.seed]
    for name, shard in zip(cell.clients, division.shards, strict=True):
        for part, indices in (("train", shard.train), ("evaluation", shard.evaluation)):
            write_arrays(cell.folder / name / f"{part}.npz", {"x": dataset.x[indices], "y": dataset.y[indices]})
    victims = division.roles.victims
    write_arrays(cell.device("victim") / "inputs.npz", {"x": dataset.x[victims]})
    write_arrays(cell.ledger, _labelled(dataset, victims))
    surrogate = _with_copies(_labelled(dataset, division.roles.attacker), cell)
    write_arrays(cell.surrogate, surrogate)
    write_arrays(cell.device("attacker") / "inputs.npz", {"x": surrogate["x"]})
    network = build(cell.study.model.name, cell.input_shape, cell.classes, cell.seed)
    encoder, _ = network.split(cell.variant.cut)
    for device in DEVICES:
        save_weights(encoder, cell.device(device) / f"{UNTRAINED}encoder.safetensors")


def _check_model(study: Study, dataset: Dataset) -> None:
    try:
        network = build(study.model.name, dataset.input_shape, len(dataset.classes), 0)
    except ValueError as error:
        raise StudyError(f"model.name: {error}") from error
    for variant in study.variants:
        if variant.cut not in network.cuts:
            choices = f"{network.cuts.start} to {network.cuts.stop - 1}"
            raise StudyError(f"variants.{variant.name}.cut: {network.name} has no cut {variant.cut}; choose {choices}")


def _divide(study: Study, dataset: Dataset, seed: int) -> Division:
    data = study.data
    roles = assign_roles(
        dataset,
        clients=data.train,
        evaluation=data.evaluation,
        attacker=data.attacker,
        victims=data.victims,
        disjoint_by=data.disjoint_by,
        only=data.only,  # type: ignore[arg-type]
        seed=seed,
    )
    held = shards(dataset, roles, data.clients, data.partition, alpha=data.alpha, by=data.by, seed=seed)
    parts = {f"client-{index}": dataset.x[shard.train] for index, shard in enumerate(held)}
    parts["evaluation"] = dataset.x[roles.evaluation]
    refuse_overlap(parts | {"attacker": dataset.x[roles.attacker], "victims": dataset.x[roles.victims]})
    return Division(roles, held)


def _labelled(dataset: Dataset, indices: Any) -> dict[str, Any]:
    arrays = {"x": dataset.x[indices], "y": dataset.y[indices]}
    return arrays | {f"attribute:{name}": held.values[indices] for name, held in dataset.attributes.items()}


def _with_copies(surrogate: dict[str, Any], cell: Cell) -> dict[str, Any]:
    """The attacker queries with changed copies of its inputs too: they cost it nothing but time."""
    # Under TLS there is no activation to pair them with.
    copies = 0 if cell.variant.encrypted or len(cell.input_shape) != 3 else cell.study.serve.copies
    rng = np.random.default_rng(cell.seed)
    repeated = {name: np.concatenate([values] * (copies + 1)) for name, values in surrogate.items()}
    n = len(surrogate["x"])
    for copy in range(1, copies + 1):
        repeated["x"][copy * n : (copy + 1) * n] = augment(surrogate["x"], rng)
    return repeated | {"augmented": np.arange(n * (copies + 1)) >= n}
