"""Check a study whole before anything starts, and lay out what each party holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wireleak.common.files import write_arrays
from wireleak.common.models import build, save_weights
from wireleak.common.models.factory import resolve
from wireleak.common.models.private import unfit
from wireleak.lab.data import Dataset, load
from wireleak.lab.data.augment import augment
from wireleak.lab.data.dataset import Ints
from wireleak.lab.data.overlap import find_overlap, refuse_overlap
from wireleak.lab.data.partition import Shard, shards
from wireleak.lab.data.roles import Roles, assign_roles
from wireleak.lab.data.stream import plain_stream, property_stream
from wireleak.lab.run.cell import DEVICES, UNTRAINED, Cell
from wireleak.lab.run.truth import PARTICIPANTS, write_records
from wireleak.lab.steps import canaries
from wireleak.lab.steps.attack import find_attack
from wireleak.lab.study.schema import Study, StudyError
from wireleak.lab.study.tables import AttackUse, Variant


@dataclass(frozen=True)
class Division:
    """Who holds which examples with one seed."""

    roles: Roles
    shards: list[Shard]
    # What each client trains on and in which round, by client; empty where all rounds see all of the shard.
    streams: list[tuple[Ints, Ints]]
    # Examples that roles in `data.overlap` share with others, by "role and other".
    overlaps: dict[str, int]


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
            alike = f"{seed} {study.clients_of(variant)} {stream} {study.system_of(variant).rounds if stream else ''}"
            if alike not in made:
                made[alike] = _divide(study, dataset, variant, seed)
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
    canaries.check(plan.study)
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
        _check_captures(plan.study, use, where, attack["reads"])
        unknown = set(use.options) - set(attack["options"].get("properties", {}))
        if unknown:
            known = ", ".join(attack["options"].get("properties", {})) or "none"
            raise StudyError(f"{where}.options.{sorted(unknown)[0]}: no such option; choose from {known}")


def _check_captures(study: Study, use: AttackUse, where: str, reads: str) -> None:
    for variant in study.variants:
        if variant not in [one for one in study.variants if use in study.attacks_on(one)]:
            continue
        mode = variant.mode or study.system.mode
        if reads == "serve" and not study.serve.devices:
            raise StudyError(f"{where}: reads what devices send, but serve.devices = false; allow them")
        if reads == "train" and mode != "split":
            raise StudyError(f'{where}: reads split training, but variants.{variant.name} is not mode = "split"')
        if reads != "updates":
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
        if study.secure(variant) and vantage in ("link", "gateway", "server"):
            raise StudyError(
                f"{where}: needs each client's update, and secure aggregation in variants.{variant.name} shows their "
                'sum alone; take vantage = "participant" or drop the attack there'
            )


def _check_target(plan: Plan, where: str, target: str, kinds: str) -> None:
    guesses = {
        "input": "the input",
        "label": "training labels",
        "member": "membership",
        "secret": "a secret",
        "canary": "planted numbers",
        "attribute": "attributes",
    }
    wanted = target if target in guesses else "attribute"
    if wanted != kinds:
        raise StudyError(f"{where}.targets: it guesses {guesses[kinds]}, not {target!r}")
    if wanted != "attribute":
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


def write_cell(plan: Plan, cell: Cell) -> None:
    """Write every party's data into its own folder, and the ground truth into the sealed ledger."""
    dataset, division = plan.dataset, plan.divisions[cell.variant.name, cell.seed]
    for number, (name, shard) in enumerate(zip(cell.clients, division.shards, strict=True)):
        train, when = division.streams[number] if division.streams else (shard.train, None)
        rounds: dict[str, Ints] = {} if when is None else {"round": when}
        # A device knows its own owner's attributes; defences that train against them need their number of values.
        values = {f"values:{name}": np.int64(len(held.classes)) for name, held in dataset.attributes.items()}
        arrays: dict[str, Any] = _labelled(dataset, train) | values | rounds
        write_arrays(cell.folder / name / "train.npz", arrays)
        indices = shard.evaluation
        write_arrays(cell.folder / name / "evaluation.npz", {"x": dataset.x[indices], "y": dataset.y[indices]})
        people = {f"group:{group}": values[train] for group, values in dataset.groups.items()}
        write_arrays(cell.trained_on(name), _labelled(dataset, train) | people | rounds)
    victims = division.roles.victims
    write_arrays(cell.device("victim") / "inputs.npz", {"x": dataset.x[victims]})
    groups = {f"group:{name}": values[victims] for name, values in dataset.groups.items()}
    write_arrays(cell.ledger, _labelled(dataset, victims) | groups)
    surrogate = _labelled(dataset, division.roles.attacker)
    if cell.study.data.disjoint_by is not None:
        # Whom the attacker's own examples are of: it validates on people that it did not train on.
        surrogate["group"] = dataset.group(cell.study.data.disjoint_by)[division.roles.attacker]
    surrogate = _with_copies(_queries(surrogate, cell), cell)
    write_arrays(cell.surrogate, surrogate | {"range": np.array([dataset.x.min(), dataset.x.max()])})
    write_arrays(cell.device("attacker") / "inputs.npz", {"x": surrogate["x"]})
    write_records(cell)
    if not cell.study.serve.devices:
        return
    network = build(cell.model()["name"], cell.input_shape, cell.classes, cell.seed)
    encoder, _ = network.split(cell.variant.cut)
    for device in DEVICES:
        save_weights(encoder, cell.device(device) / f"{UNTRAINED}encoder.safetensors")


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
        if study.privacy_of(variant) and (reason := unfit(network.blocks)) is not None:
            raise StudyError(f"variants.{variant.name}.privacy: {network.name}: {reason}")


def _divide(study: Study, dataset: Dataset, variant: Variant, seed: int) -> Division:
    data, clients = study.data, study.clients_of(variant)
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
    )
    held = shards(dataset, roles, clients, data.partition, alpha=data.alpha, by=data.by, seed=seed)
    parts = {f"client-{index}": dataset.x[shard.train] for index, shard in enumerate(held)}
    parts["evaluation"] = dataset.x[roles.evaluation]
    parts |= {"attacker": dataset.x[roles.attacker], "victims": dataset.x[roles.victims]}
    meant = {name for name in parts if ("clients" if name.startswith("client-") else name) in data.overlap}
    refuse_overlap({name: x for name, x in parts.items() if name not in meant})
    return Division(roles, held, _streams(study, dataset, variant, held, seed), _overlaps(parts, meant))


def _streams(study: Study, dataset: Dataset, variant: Variant, held: list[Shard], seed: int) -> list[tuple[Ints, Ints]]:
    """What each client trains on in which round; the victim of a property stream is client 1, or 0 if it is alone."""
    stream, rounds = study.stream_of(variant), study.system_of(variant).rounds
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
    """How many examples each part that may overlap shares with each other part, where any."""
    pairs = [(one, other) for one in sorted(meant) for other in parts if other != one]
    counts = {f"{one} and {other}": find_overlap(parts[other], parts[one]).count for one, other in pairs}
    return {pair: count for pair, count in counts.items() if count}


def _queries(surrogate: dict[str, Any], cell: Cell) -> dict[str, Any]:
    """What the attacker's device sends: its data, or noise with their mean and spread and no labels worth the name."""
    if cell.variant.queries == "surrogate":
        return surrogate
    x = surrogate["x"]
    noise = np.random.default_rng(cell.seed).standard_normal(x.shape) * x.std() + x.mean()
    return surrogate | {"x": noise.astype(np.float32)}


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
