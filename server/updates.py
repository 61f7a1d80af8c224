"""What the server keeps of checked updates: their optional metrics, copies, and how they compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, Message

from server.guard import optional
from wireleak.common.exchanged import kept_file
from wireleak.common.measures.statistics.visibility import cosines, norm_ratios, outlier_scores
from wireleak.common.models import save_arrays


def take_extras(replies: Mapping[int, Message]) -> dict[str, list[float]]:
    """Remove the optional metrics, which strategies cannot average, from usable replies; return them by name."""
    extras: dict[str, list[float]] = {}
    for reply in replies.values():
        record = reply.content.metric_records["metrics"]
        for name in sorted(filter(optional, record)):
            extras.setdefault(name, []).append(float(cast(float, record.pop(name))))
    return extras


def record(
    folder: Path, server_round: int, models: tuple[ArrayRecord, ArrayRecord], updates: Mapping[int, ArrayRecord]
) -> None:
    """Write a round's models, before and after, and each client's reply, one folder per node."""
    for node, update in updates.items():
        own = folder / str(node)
        kept = {
            kept_file(own, server_round, "start"): models[0],
            kept_file(own, server_round, "end"): update,
            kept_file(own, server_round + 1, "start"): models[1],
        }
        for path, arrays in kept.items():
            save_arrays({name: array.numpy() for name, array in arrays.items()}, path)


def standing(model: ArrayRecord, updates: Mapping[int, ArrayRecord]) -> dict[int, dict[str, float]]:
    """Compare each update with the others': norm by their median norm, cosine with their mean, spectral outlier score.

    A server that looks for malicious clients would use these figures; empty for fewer than two updates.
    """
    if len(updates) < 2:
        return {}
    before = {name: array.numpy() for name, array in model.items()}
    moved = [{name: array.numpy() - before[name] for name, array in update.items()} for update in updates.values()]
    figures = {"norm-ratio": norm_ratios(moved), "cosine": cosines(moved), "outlier": outlier_scores(moved)}
    return {
        node: {name: float(values[place]) for name, values in figures.items()} for place, node in enumerate(updates)
    }


def with_dtypes_of(model: ArrayRecord, averaged: ArrayRecord) -> ArrayRecord:
    """Restore each averaged array's dtype in `model`: Flower's mean of BatchNorm's integer count is float64."""
    arrays = ArrayRecord()
    for name, array in averaged.items():
        wanted = model[name].dtype
        values = array.numpy()
        if array.dtype != wanted:
            values = (np.rint(values) if np.dtype(wanted).kind in "iu" else values).astype(wanted)
        # numpy turns a zero-dimensional array into a scalar.
        arrays[name] = Array(np.asarray(values))
    return arrays
