"""Which replies may be averaged, and what is said of the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict

from server.updates import EVALUATION_METRICS, TRAIN_METRICS, usable

GLOBAL = ArrayRecord({"0.weight": Array(np.zeros((2, 3), np.float32)), "0.bias": Array(np.zeros(2, np.float32))})


def asked() -> Message:
    return Message(RecordDict(), 1, "train")


def update(weight: Any = None, drop: str = "", metrics: dict[str, Any] | None = None, **more: Any) -> Message:
    arrays = {
        "0.weight": np.ones((2, 3), np.float32) if weight is None else weight,
        "0.bias": np.ones(2, np.float32),
    } | {name.replace("_", "."): value for name, value in more.items()}
    arrays.pop(drop, None)
    record = ArrayRecord({name: v if isinstance(v, Array) else Array(v) for name, v in arrays.items()})
    numbers = {"num-examples": 10, "train-loss": 0.5} | (metrics or {})
    return Message(RecordDict({"arrays": record, "metrics": MetricRecord(numbers)}), reply_to=asked())


def lying() -> Array:
    """Declares the right shape, holds another."""
    array = Array(np.ones((4, 3), np.float32))
    return Array("float32", (2, 3), array.stype, array.data)


def garbage() -> Array:
    array = Array(np.ones((2, 3), np.float32))
    return Array("float32", (2, 3), array.stype, array.data[:-5])


BAD: dict[str, tuple[Callable[[], Message | None], str]] = {
    "silent": (lambda: None, "did not answer in time"),
    "error": (lambda: Message(Error(1, "it\nbroke"), reply_to=asked()), "it broke"),
    "NaN": (lambda: update(np.full((2, 3), np.nan, np.float32)), "layer 0.weight holds NaN or infinite values"),
    "infinite": (lambda: update(np.full((2, 3), -np.inf, np.float32)), "layer 0.weight holds NaN"),
    "shape": (lambda: update(np.ones((3, 2), np.float32)), "layer 0.weight is ((3, 2), 'float32')"),
    "dtype": (lambda: update(np.ones((2, 3), np.float64)), "layer 0.weight is ((2, 3), 'float64')"),
    "missing layer": (lambda: update(drop="0.bias"), "layers differ from the global model's: 0.bias"),
    "extra layer": (lambda: update(x_y=np.ones(1, np.float32)), "layers differ from the global model's: x.y"),
    "lying array": (lambda: update(lying()), "layer 0.weight holds (4, 3)"),
    "garbage": (lambda: update(garbage()), "layer 0.weight cannot be decoded"),
    "weight 0": (lambda: update(metrics={"num-examples": 0}), "metric num-examples is 0"),
    "negative weight": (lambda: update(metrics={"num-examples": -5}), "metric num-examples is -5"),
    "fraction": (lambda: update(metrics={"num-examples": 0.5}), "metric num-examples is 0.5"),
    "NaN loss": (lambda: update(metrics={"train-loss": float("nan")}), "metric train-loss is no finite number"),
    "list": (lambda: update(metrics={"train-loss": [1.0]}), "metric train-loss is no finite number"),
    "extra metric": (lambda: update(metrics={"mine": 1}), "metrics are ['mine'"),
    "no content": (lambda: Message(RecordDict(), reply_to=asked()), "holds no single record of metrics"),
    "no arrays": (
        lambda: Message(
            RecordDict({"metrics": MetricRecord({"num-examples": 1, "train-loss": 1.0})}), reply_to=asked()
        ),
        "holds no single record of arrays",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_update_is_dropped_and_named(kind: str) -> None:
    make, reason = BAD[kind]
    honest = update()
    good, dropped = usable({7: honest, 8: make()}, TRAIN_METRICS, GLOBAL)
    assert good == {7: honest}
    assert list(dropped) == [8]
    assert dropped[8].startswith(reason)
    assert "\n" not in dropped[8]


def test_evaluations_carry_no_arrays() -> None:
    numbers = MetricRecord({"num-examples": 3, "evaluation-loss": 0.1, "evaluation-accuracy": 1.0})
    reply = Message(RecordDict({"metrics": numbers}), reply_to=asked())
    assert usable({1: reply, 2: update()}, EVALUATION_METRICS)[0] == {1: reply}
