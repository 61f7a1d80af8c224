"""Write each party's data into its own folder, and the ground truth into the sealed files."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from wireleak.common.files import link_or_copy, write_arrays
from wireleak.common.models import build, save_weights
from wireleak.lab.data import Dataset
from wireleak.lab.data.dataset import Ints
from wireleak.lab.run.cell import DEVICES, UNTRAINED, Cell
from wireleak.lab.run.truth import deal_canaries, write_records
from wireleak.lab.steps.plan import Plan
from wireleak.lab.steps.two_points import promise_of, write_pairs


def write_cell(plan: Plan, cell: Cell) -> None:
    """Write every party's data into its own folder, and the ground truth into the sealed ledger."""
    dataset, division = plan.dataset, plan.divisions[cell.variant.name, cell.seed]
    cell.ledger.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write = partial(write_arrays, compress=cell.study.tap.compress)
    for number, (name, shard) in enumerate(zip(cell.clients, division.shards, strict=True)):
        train, when = division.streams[number] if division.streams else (shard.train, None)
        rounds: dict[str, Ints] = {} if when is None else {"round": when}
        # A device knows its owner's attributes; defences that train against them need their number of classes.
        values = {f"values:{name}": np.int64(len(held.classes)) for name, held in dataset.attributes.items()}
        indices = shard.evaluation
        write(cell.evaluation(name), {"x": dataset.inputs(indices), "y": dataset.y[indices]})
        if not cell.trains:
            continue
        labelled: dict[str, Any] = _labelled(dataset, train)
        sealed = labelled | {f"group:{group}": values[train] for group, values in dataset.groups.items()}
        if cell.study.data.canaries is not None:
            sealed = deal_canaries(cell, number, sealed)
            labelled = {key: sealed[key] for key in labelled}
        write(cell.train(name), labelled | values | rounds)
        write(cell.trained_on(name), sealed | rounds)
    victims = division.roles.victims
    write(cell.inputs("victim"), {"x": dataset.inputs(victims)})
    groups = {f"group:{name}": values[victims] for name, values in dataset.groups.items()}
    write(cell.ledger, _labelled(dataset, victims) | groups)
    surrogate = _labelled(dataset, division.roles.attacker)
    if cell.study.data.disjoint_by is not None:
        # The groups of the attacker's examples, so that it validates on people that it did not train on.
        surrogate["group"] = dataset.group(cell.study.data.disjoint_by)[division.roles.attacker]
    surrogate = _with_copies(_queries(surrogate, cell), cell)
    write(cell.surrogate, surrogate | {"range": np.array(dataset.input_range, np.float32)})
    # The attacker's device sends all of its data.
    link_or_copy(cell.surrogate, cell.inputs("attacker"))
    if cell.trains:
        write_records(cell)
    else:
        from wireleak.lab.steps.trained import write_trained

        write_trained(cell)
    untrained, noise = cell.study.serve.devices and (cell.trains or cell.serves_untrained), promise_of(cell)
    if not untrained and noise is None:
        return
    network = build(cell.model()["name"], cell.input_shape, cell.classes, cell.seed_of("initial weights"))
    if untrained:
        encoder, _ = network.split(cell.variant.cut)
        for device in DEVICES:
            save_weights(encoder, cell.encoder(device, UNTRAINED))
    if noise is not None:
        write_pairs(cell, noise, network.activation_shape(cell.variant.cut))


def registered(cell: Cell) -> list[dict[str, int]]:
    """Return the examples that the study dealt to each client: no update may count for more."""
    counts = []
    for name in cell.clients if cell.trains else ():
        with np.load(cell.train(name), allow_pickle=False) as train, np.load(cell.evaluation(name)) as evaluation:
            rounds = train["round"] if "round" in train else np.zeros(len(train["y"]), np.int64)
            counts.append({"train": int(np.bincount(rounds).max()), "evaluation": len(evaluation["y"])})
    return counts


def _queries(surrogate: dict[str, Any], cell: Cell) -> dict[str, Any]:
    """Return the queries of the attacker's device: its data, or noise of their mean and spread with useless labels."""
    if cell.variant.queries == "surrogate":
        return surrogate
    x = surrogate["x"]
    noise = np.random.default_rng(cell.seed_of("queries")).standard_normal(x.shape) * x.std() + x.mean()
    return surrogate | {"x": noise.astype(np.float32)}


def _labelled(dataset: Dataset, indices: Any) -> dict[str, Any]:
    arrays = {"x": dataset.inputs(indices), "y": dataset.y[indices]}
    return arrays | {f"attribute:{name}": held.values[indices] for name, held in dataset.attributes.items()}


def _with_copies(surrogate: dict[str, Any], cell: Cell) -> dict[str, Any]:
    """Add changed copies of the attacker's inputs to its queries; they cost it only time."""
    # Under TLS the attacker has no activations to pair them with.
    copies = 0 if cell.variant.encrypted or len(cell.input_shape) != 3 else cell.study.serve.copies
    rng = np.random.default_rng(cell.seed_of("copies"))
    if copies:
        from wireleak.lab.data.augment import augment
    repeated = {name: np.concatenate([values] * (copies + 1)) for name, values in surrogate.items()}
    n = len(surrogate["x"])
    for copy in range(1, copies + 1):
        repeated["x"][copy * n : (copy + 1) * n] = augment(surrogate["x"], rng)
    return repeated | {"augmented": np.arange(n * (copies + 1)) >= n}
