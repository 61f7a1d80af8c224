"""Which replies may be averaged, and what is said of the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any, cast

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from server.guard import EVALUATION_METRICS, TRAIN_METRICS, Expected, check, usable
from wireleak.common.wire.flower import packed

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


def encoded(data: bytes) -> Array:
    return Array("float32", (2, 3), "numpy.ndarray", data)


def npz() -> Array:
    file = BytesIO()
    np.savez(file, x=np.ones((2, 3), np.float32))
    return encoded(file.getvalue())


def objects() -> Array:
    file = BytesIO()
    np.save(file, np.array([[None] * 3] * 2), allow_pickle=True)
    return encoded(file.getvalue())


def header(text: str, body: bytes = b"") -> Array:
    return encoded(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + body)


def again(record: str, **more: Any) -> Message:
    reply = update()
    reply.content["again"] = reply.content[record]
    return reply


def in_pack(**changes: Any) -> Message:
    """A packed update with some fields of its record replaced."""
    reply = update()
    reply.content = packed(reply.content)
    cast(ConfigRecord, reply.content["packed"]).update(changes)
    return reply


def layout(*shapes: list[int]) -> str:
    return json.dumps([["arrays", f"0.{place}", "<f4", shape] for place, shape in enumerate(shapes)])


def unchecked(name: str, value: Any) -> Message:
    """A metric that Flower's own record would refuse."""
    reply = update()
    dict.__setitem__(reply.content.metric_records["metrics"]._data, name, value)  # type: ignore[attr-defined]
    return reply


BAD: dict[str, tuple[Callable[[], Message | None], str]] = {
    "silent": (lambda: None, "did not answer in time"),
    "error": (lambda: Message(Error(1, "it\nbroke"), reply_to=asked()), "it broke"),
    "NaN": (lambda: update(np.full((2, 3), np.nan, np.float32)), "layer 0.weight holds NaN or infinite values"),
    "infinite": (lambda: update(np.full((2, 3), -np.inf, np.float32)), "layer 0.weight holds NaN"),
    "shape": (lambda: update(np.ones((3, 2), np.float32)), "layer 0.weight is ((3, 2), 'float32')"),
    "dtype": (lambda: update(np.ones((2, 3), np.float64)), "layer 0.weight is ((2, 3), 'float64')"),
    "missing layer": (lambda: update(drop="0.bias"), "layers differ from the global model's: 0.bias"),
    "extra layer": (lambda: update(x_y=np.ones(1, np.float32)), "layers differ from the global model's: x.y"),
    "lying array": (lambda: update(lying()), "layer 0.weight holds ((4, 3), 'float32')"),
    "garbage": (lambda: update(garbage()), "layer 0.weight holds 19 bytes where 24 are needed"),
    "weight 0": (lambda: update(metrics={"num-examples": 0}), "metric num-examples is 0"),
    "negative weight": (lambda: update(metrics={"num-examples": -5}), "metric num-examples is -5"),
    "fraction": (lambda: update(metrics={"num-examples": 0.5}), "metric num-examples is 0.5"),
    "NaN loss": (lambda: update(metrics={"train-loss": float("nan")}), "metric train-loss is no finite number"),
    "list": (lambda: update(metrics={"train-loss": [1.0]}), "metric train-loss is no finite number"),
    "extra metric": (lambda: update(metrics={"mine": 1}), "metrics are mine, num-examples, train-loss where"),
    ".npz": (lambda: update(npz()), "layer 0.weight is no array in NumPy's format .npy"),
    "objects": (lambda: update(objects()), "layer 0.weight holds ((2, 3), 'object') where it declares"),
    "no header": (lambda: update(header("{'descr': '<f4'")), "layer 0.weight is no array"),
    "code in the header": (lambda: update(header("__import__('os').getpid()")), "layer 0.weight is no array"),
    "deep header": (lambda: update(header("(" * 9000)), "layer 0.weight is no array"),
    "huge header": (
        lambda: update(header("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}" + " " * 20)),
        "layer 0.weight holds ((1099511627776,), 'float32')",
    ),
    "short body": (
        lambda: update(header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", bytes(8))),
        "layer 0.weight holds 8 bytes where 24 are needed",
    ),
    "other byte order": (
        lambda: update(header("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3)}", bytes(24))),
        "layer 0.weight holds ((2, 3), '>f4')",
    ),
    "pickle": (lambda: update(encoded(b"\x80\x04N.")), "layer 0.weight is no array"),
    "no bytes": (lambda: update(encoded(b"")), "layer 0.weight is no array"),
    "too large": (lambda: update(np.full((2, 3), 1e30, np.float32)), "layer 0.weight holds values over 1e+18"),
    "2^62 examples": (
        lambda: update(metrics={"num-examples": 1 << 62}),
        "metric num-examples is 4611686018427387904, but the client registered 10",
    ),
    "one example too many": (lambda: update(metrics={"num-examples": 11}), "metric num-examples is 11, but"),
    "examples as float": (lambda: update(metrics={"num-examples": 10.0}), "metric num-examples is 10.0"),
    "true examples": (lambda: unchecked("num-examples", True), "metric num-examples is no finite number"),
    "text as loss": (lambda: unchecked("train-loss", "0.1"), "metric train-loss is no finite number"),
    "enormous loss": (lambda: unchecked("train-loss", 10**400), "cannot be read (OverflowError)"),
    "100,000 metrics": (
        lambda: update(metrics={f"own/{n}": 1.0 for n in range(100_000)}),
        "holds 100002 metrics where at most 64 are expected",
    ),
    "100,000 layers": (
        lambda: update(**{f"x_{n}": cast(Any, np.ones(1, np.float32)) for n in range(1000)}),
        "layers differ from the global model's: x.0, x.1, x.10, x.100 and 996 more",
    ),
    "escape sequence": (
        lambda: update(metrics={"own/\x1b[2J": 1.0}),
        r"metrics are num-examples, own/\x1b[2J, train-loss where",
    ),
    "two records of metrics": (lambda: again("metrics"), "holds no single record of metrics"),
    "two records of arrays": (lambda: again("arrays"), "holds the records again, arrays where a single record"),
    "packed layout of other shapes": (lambda: in_pack(layout=layout([2, 3], [3])), "its packed arrays cannot be read"),
    "packed layout of other names": (
        lambda: in_pack(layout=layout([6], [1, 2])),
        "layers differ from the global model's: 0.0, 0.1, 0.bias",
    ),
    "packed layout of terabytes": (lambda: in_pack(layout=layout([1 << 40])), "its packed arrays cannot be read"),
    "packed layout no JSON": (lambda: in_pack(layout="[" * 100_000), "its packed arrays cannot be read"),
    "packed layout a number": (lambda: in_pack(layout=7), "its packed arrays cannot be read"),
    "packed data a number": (lambda: in_pack(packed=7), "its packed arrays cannot be read"),
    "packed data text": (lambda: in_pack(packed="abc"), "its packed arrays cannot be read"),
    "packed records a number": (lambda: in_pack(records=7), "its packed arrays cannot be read"),
    "packed records many": (
        lambda: in_pack(records=["arrays/arrays", "metrics/metrics"] * 50_000),
        "its packed arrays cannot be read",
    ),
    "packed metric a text": (lambda: in_pack(**{"metrics/metrics/train-loss": "x"}), "its packed arrays cannot be"),
    "packed metric true": (lambda: in_pack(**{"metrics/metrics/train-loss": True}), "its packed arrays cannot be"),
    "no content": (lambda: Message(RecordDict(), reply_to=asked()), "holds no single record of metrics"),
    "no arrays": (
        lambda: Message(
            RecordDict({"metrics": MetricRecord({"num-examples": 1, "train-loss": 1.0})}), reply_to=asked()
        ),
        "holds the records none where a single record of arrays",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_update_is_dropped_and_named(kind: str) -> None:
    make, reason = BAD[kind]
    honest = update()
    good, dropped = usable({7: honest, 8: make()}, partial(check, Expected(TRAIN_METRICS, GLOBAL, lambda _: 10)))
    assert good == {7: honest}
    assert list(dropped) == [8]
    assert dropped[8].startswith(reason)
    assert dropped[8].isprintable() and len(dropped[8]) < 300


def test_a_good_update_gets_the_order_of_the_model_packed_or_not() -> None:
    """Krum flattens updates in their own order."""
    turned = Message(
        RecordDict(
            {
                "metrics": MetricRecord({"num-examples": 10, "train-loss": 0.5, "own/noise/epsilon": 1.0}),
                "arrays": ArrayRecord(dict(reversed(list(update().content.array_records["arrays"].items())))),
            }
        ),
        reply_to=asked(),
    )
    good, dropped = usable({1: turned, 2: in_pack()}, partial(check, Expected(TRAIN_METRICS, GLOBAL)))
    assert dropped == {}
    assert [list(reply.content.array_records["arrays"]) for reply in good.values()] == [list(GLOBAL)] * 2


def test_evaluations_carry_no_arrays() -> None:
    def scored(accuracy: float) -> Message:
        numbers = MetricRecord({"num-examples": 3, "evaluation-loss": 0.1, "evaluation-accuracy": accuracy})
        return Message(RecordDict({"metrics": numbers}), reply_to=asked())

    reply = scored(1.0)
    good, dropped = usable({1: reply, 2: update(), 3: scored(1.5)}, partial(check, Expected(EVALUATION_METRICS)))
    assert good == {1: reply}
    assert dropped[3] == "metric evaluation-accuracy is outside 0..1"
