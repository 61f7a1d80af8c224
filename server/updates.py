"""Checks of clients' replies before they may change the global model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord

from wireleak.common.exchanged import kept_file
from wireleak.common.measures.statistics.visibility import cosines, norm_ratios
from wireleak.common.models import save_arrays
from wireleak.common.wire.flower import unpacked
from wireleak.common.wire.packing import PackingError

WEIGHT = "num-examples"
TRAIN_METRICS = frozenset({WEIGHT, "train-loss"})
# Optional metrics: DP-SGD's epsilon so far, CPU time, the result of the hijack check, and under "own/…" the
# diagnostics of its transforms.
OPTIONAL_METRICS = frozenset(
    {"device-seconds", "epsilon", "gradient-likeness", "hijack-noticed-after", "hijack-suspected"}
)
OWN = "own/"
EVALUATION_METRICS = frozenset({WEIGHT, "evaluation-loss", "evaluation-accuracy"})


class UnusableError(ValueError):
    """A reply cannot be used; the message gives the reason."""


def usable(
    replies: Mapping[int, Message | None], metrics: frozenset[str], arrays: ArrayRecord | None = None
) -> tuple[dict[int, Message], dict[int, str]]:
    """Separate replies that may be averaged from those that may not.

    Parameters
    ----------
    replies : mapping of int to (Message or None)
        One phase's replies by node; None for a node that did not answer.
    metrics : frozenset of str
        Metrics that each reply must contain, including `num-examples`.
    arrays : ArrayRecord, optional
        The global model: an update must have its layers, shapes and dtypes. None: replies carry no update.

    Returns
    -------
    good : dict of int to Message
        Replies to aggregate, by node.
    dropped : dict of int to str
        Reasons for dropping a reply, by node.
    """
    good: dict[int, Message] = {}
    dropped: dict[int, str] = {}
    for node, reply in replies.items():
        if reply is None:
            dropped[node] = "did not answer in time"
            continue
        try:
            _check(reply, metrics, arrays)
        except UnusableError as error:
            dropped[node] = str(error)
        else:
            good[node] = reply
    return good, dropped


def take_extras(replies: Mapping[int, Message]) -> dict[str, list[float]]:
    """Remove the optional metrics, which strategies cannot average, from usable replies; return them by name."""
    extras: dict[str, list[float]] = {}
    for reply in replies.values():
        record = reply.content.metric_records["metrics"]
        for name in sorted(filter(_optional, record)):
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
    """Compare each update with the others': its norm by their median norm, its cosine with their mean.

    A server that looks for malicious clients would use these figures; empty for fewer than two updates.
    """
    if len(updates) < 2:
        return {}
    before = {name: array.numpy() for name, array in model.items()}
    moved = [{name: array.numpy() - before[name] for name, array in update.items()} for update in updates.values()]
    pairs = zip(updates, norm_ratios(moved), cosines(moved), strict=True)
    return {node: {"norm-ratio": float(ratio), "cosine": float(cosine)} for node, ratio, cosine in pairs}


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


def _check(reply: Message, metrics: frozenset[str], arrays: ArrayRecord | None) -> None:
    if reply.has_error():
        raise UnusableError(" ".join((reply.error.reason or "error without a reason").split()))
    try:
        if (content := unpacked(reply.content)) is not None:
            reply.content = content
    except PackingError as error:
        raise UnusableError(f"its packed arrays cannot be read: {error}") from error
    records = reply.content
    if len(records.metric_records) != 1 or "metrics" not in records.metric_records:
        raise UnusableError("holds no single record of metrics called 'metrics'")
    _check_metrics(records.metric_records["metrics"], metrics)
    if arrays is not None:
        if len(records.array_records) != 1 or "arrays" not in records.array_records:
            raise UnusableError("holds no single record of arrays called 'arrays'")
        _check_arrays(records.array_records["arrays"], arrays)


def _check_metrics(record: MetricRecord, expected: frozenset[str]) -> None:
    if {name for name in record if not _optional(name)} != expected:
        raise UnusableError(f"metrics are {sorted(record)} where {sorted(expected)} are expected")
    for name, value in record.items():
        if isinstance(value, list) or not math.isfinite(value):
            raise UnusableError(f"metric {name} is no finite number")
    weight = record[WEIGHT]
    if not isinstance(weight, int) or weight < 1:
        raise UnusableError(f"metric {WEIGHT} is {weight} where a whole number of 1 or more is expected")


def _optional(name: str) -> bool:
    return name in OPTIONAL_METRICS or name.startswith(OWN)


def _check_arrays(record: ArrayRecord, expected: ArrayRecord) -> None:
    if set(record) != set(expected):
        odd = ", ".join(sorted(set(record) ^ set(expected)))
        raise UnusableError(f"layers differ from the global model's: {odd}")
    for name, array in record.items():
        # The declared shape is checked first, so that a wrong one allocates nothing. The bytes may declare another.
        like = expected[name]
        declared = (tuple(array.shape), array.dtype)
        if declared != (tuple(like.shape), like.dtype):
            raise UnusableError(f"layer {name} is {declared} where {(tuple(like.shape), like.dtype)} is expected")
        try:
            values = array.numpy()
        except (ValueError, OSError, EOFError, MemoryError, TypeError) as error:
            raise UnusableError(f"layer {name} cannot be decoded") from error
        if (values.shape, str(values.dtype)) != declared:
            raise UnusableError(f"layer {name} holds {values.shape} {values.dtype} where it declares {declared}")
        if not np.isfinite(values).all():
            raise UnusableError(f"layer {name} holds NaN or infinite values")
