"""Checkpoints and accuracy of a network that comes trained, in the files that a training would write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from wireleak.common.files import write_json
from wireleak.common.models import build, save_weights
from wireleak.lab.run.cell import Cell

_BATCH = 16


def write_trained(cell: Cell) -> None:
    """Write a cell's encoder and head, and the accuracy of the whole network on the evaluation examples."""
    model, rounds = cell.architecture(), cell.plan.rounds
    network = build(
        model["name"], cell.input_shape, cell.classes, cell.seed_of("initial weights"), cell.initial_weights
    )
    for stage, module in zip(("encoder", "head"), network.split(cell.variant.cut), strict=True):
        save_weights(module, cell.checkpoint(stage, rounds))
    loss, accuracy = _known(cell) or _evaluate(network.blocks, cell)
    entry = {"round": rounds, "train_loss": None, "evaluation_loss": loss, "evaluation_accuracy": accuracy}
    empty = {"client_metrics": {}, "standing": {}, "trained": [], "evaluated": [], "dropped": [], "seconds": 0.0}
    write_json(cell.history, {"mode": cell.mode, "rounds": [entry | empty]})


def _known(cell: Cell) -> tuple[float | None, float] | None:
    """Return the accuracy that whoever trained the network wrote next to its weights, for these very examples."""
    path = None if cell.initial_weights is None else Path(cell.initial_weights).with_suffix(".json")
    # Only an audit writes such a file into its run's folder; it divided the data as this run does.
    if path is None or not path.is_file() or not path.is_relative_to(cell.run):
        return None
    return None, float(json.loads(path.read_text())["accuracy"])


def _evaluate(network: nn.Module, cell: Cell) -> tuple[float, float]:
    """Return the mean cross-entropy in nats, and the accuracy."""
    network.eval()
    total, right, count = 0.0, 0, 0
    with torch.inference_mode():
        for name in cell.clients:
            with np.load(cell.evaluation(name)) as own:
                inputs, labels = torch.from_numpy(own["x"]), torch.from_numpy(own["y"])
            for x, y in zip(inputs.split(_BATCH), labels.split(_BATCH), strict=True):
                scores = network(x)
                total += float(nn.functional.cross_entropy(scores, y, reduction="sum"))
                right += int((scores.argmax(1) == y).sum())
            count += len(labels)
    return total / count, right / count
