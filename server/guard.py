"""The one place where a client's reply enters the server: it becomes a checked one, or a reason for leaving it out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Message, MetricRecord

from wireleak.common.wire.flower import unpacked
from wireleak.common.wire.packing import PackingError
from wireleak.common.words import printable

WEIGHT = "num-examples"
TRAIN_METRICS = frozenset({WEIGHT, "train-loss"})
# Optional metrics: DP-SGD's epsilon so far, CPU time, the result of the hijack check, and under "own/…" the
# diagnostics of its transforms.
OPTIONAL_METRICS = frozenset(
    {"device-seconds", "epsilon", "gradient-likeness", "hijack-noticed-after", "hijack-suspected"}
)
OWN = "own/"
ACCURACY = "evaluation-accuracy"
EVALUATION_METRICS = frozenset({WEIGHT, "evaluation-loss", ACCURACY})
MOST_METRICS = 64
# Without a registered number. Sums of such weights stay exact, but one client may still outweigh all others.
MOST_EXAMPLES = 1 << 24
# Squares of larger weights overflow float32, so one client could turn the shared model into infinities.
LARGEST = 1e18
_NAME_LENGTH = 80


class UnusableError(ValueError):
    """A reply cannot be used; the message gives the reason."""


class Expected(NamedTuple):
    """What a phase's replies must hold.

    Parameters
    ----------
    metrics : frozenset of str
        Metrics that each reply must contain, including `num-examples`.
    arrays : ArrayRecord, optional
        The global model: an update must have its layers, shapes and dtypes. None: replies carry no update.
    most : callable
        The largest `num-examples` of a node.
    """

    metrics: frozenset[str]
    arrays: ArrayRecord | None = None
    most: Callable[[int], int] = lambda _: MOST_EXAMPLES


def usable(
    replies: Mapping[int, Message | None], check: Callable[[int, Message], None]
) -> tuple[dict[int, Message], dict[int, str]]:
    """Separate replies that may be used from those that may not.

    Parameters
    ----------
    replies : mapping of int to (Message or None)
        One phase's replies by node; None for a node that did not answer.
    check : callable
        (node, reply): raises `UnusableError` for a reply that may not be used. Any other error is a reason, too,
        because bytes from elsewhere may break a decoder in a way that nobody foresaw.

    Returns
    -------
    good : dict of int to Message
        Replies to use, by node.
    dropped : dict of int to str
        Reasons for dropping a reply, by node; each is one short line.
    """
    good: dict[int, Message] = {}
    dropped: dict[int, str] = {}
    for node, reply in replies.items():
        try:
            if reply is None:
                raise UnusableError("did not answer in time")
            if reply.has_error():
                raise UnusableError(_reason(reply))
            check(node, reply)
        except UnusableError as error:
            dropped[node] = printable(str(error))
        except Exception as error:
            dropped[node] = f"cannot be read ({type(error).__name__})"
        else:
            good[node] = reply
    return good, dropped


def _reason(reply: Message) -> str:
    reason = " ".join((reply.error.reason or "error without a reason").split())
    # Flower's own words about an object that could not be pulled say less than ours behind them.
    return reason.rpartition("Failed to pull object with ID ")[2].partition("': ")[2] or reason


def check(expected: Expected, node: int, reply: Message) -> None:
    """Check a reply, and put its arrays into the order of the global model's.

    Raises
    ------
    UnusableError
        The first rule that the reply breaks.
    """
    try:
        content = unpacked(reply.content) or reply.content
    except PackingError as error:
        raise UnusableError(f"its packed arrays cannot be read: {error}") from error
    if list(content.metric_records) != ["metrics"]:
        raise UnusableError("holds no single record of metrics called 'metrics'")
    metrics = content.metric_records["metrics"]
    _check_metrics(metrics, expected.metrics)
    check_weight(metrics[WEIGHT], expected.most(node))
    if list(content.array_records) != ([] if expected.arrays is None else ["arrays"]):
        wanted = "no record of arrays" if expected.arrays is None else "a single record of arrays called 'arrays'"
        raise UnusableError(f"holds the records {few(content.array_records)} where {wanted} is expected")
    if expected.arrays is not None:
        content["arrays"] = _checked_arrays(content.array_records["arrays"], expected.arrays)
    reply.content = content


def check_weight(weight: object, most: int) -> None:
    """Check the number of examples with which a client's update is weighted.

    Raises
    ------
    UnusableError
        It is no whole number from 1 to `most`.
    """
    if type(weight) is not int or weight < 1:
        raise UnusableError(f"metric {WEIGHT} is {weight} where a whole number of 1 or more is expected")
    if weight > most:
        raise UnusableError(f"metric {WEIGHT} is {weight}, but the client registered {most}")


def check_number(name: str, value: object) -> None:
    """Check that a metric is one finite number.

    Raises
    ------
    UnusableError
        It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UnusableError(f"metric {printable(name, _NAME_LENGTH)} is no finite number")


def checked_values(name: str, array: Array, shape: tuple[int, ...], dtype: str) -> npt.NDArray[np.generic]:
    """Return an array's values, which are finite.

    Raises
    ------
    UnusableError
        It is no `.npy` of this shape and dtype, or holds numbers that would overflow the model.
    """
    # The declared shape is checked first, then the one in the bytes, so that a wrong one allocates nothing.
    declared, wanted = (tuple(array.shape), array.dtype), (tuple(shape), dtype)
    if declared != wanted:
        raise UnusableError(f"layer {name} is {declared} where {wanted} is expected")
    try:
        held, size = npy_header(array.data)
    except Exception as error:
        raise UnusableError(f"layer {name} is no array in NumPy's format .npy") from error
    if held != wanted:
        raise UnusableError(f"layer {name} holds {held} where it declares {declared}")
    if size != (needed := math.prod(shape) * np.dtype(dtype).itemsize):
        raise UnusableError(f"layer {name} holds {size} bytes where {needed} are needed")
    values = array.numpy()
    if not np.isfinite(values).all():
        raise UnusableError(f"layer {name} holds NaN or infinite values")
    if values.size and not max(-float(values.min()), float(values.max())) <= LARGEST:
        raise UnusableError(f"layer {name} holds values over {LARGEST:g}")
    return values


def few(names: Iterable[str], most: int = 4) -> str:
    """List names from elsewhere in a short line."""
    ordered = sorted(names)
    shown = ", ".join(printable(name, _NAME_LENGTH) for name in ordered[:most])
    return f"{shown} and {len(ordered) - most} more" if len(ordered) > most else shown or "none"


def _check_metrics(record: MetricRecord, expected: frozenset[str]) -> None:
    if len(record) > MOST_METRICS:
        raise UnusableError(f"holds {len(record)} metrics where at most {MOST_METRICS} are expected")
    if {name for name in record if not optional(name)} != expected:
        raise UnusableError(f"metrics are {few(record)} where {few(expected)} are expected")
    for name, value in record.items():
        check_number(name, value)
    if ACCURACY in record and not 0 <= float(record[ACCURACY]) <= 1:  # type: ignore[arg-type]
        raise UnusableError(f"metric {ACCURACY} is outside 0..1")


def optional(name: str) -> bool:
    """Whether a metric may be missing from a client's reply, and is kept apart from those that are averaged."""
    return name in OPTIONAL_METRICS or (name.startswith(OWN) and len(name) <= _NAME_LENGTH and name.isprintable())


def _checked_arrays(record: ArrayRecord, expected: ArrayRecord) -> ArrayRecord:
    if set(record) != set(expected):
        raise UnusableError(f"layers differ from the global model's: {few(set(record) ^ set(expected))}")
    for name, like in expected.items():
        checked_values(name, record[name], like.shape, like.dtype)
    # Krum compares updates by the order of their arrays.
    return ArrayRecord({name: record[name] for name in expected})


def npy_header(data: bytes) -> tuple[tuple[tuple[int, ...], str], int]:
    """Return shape and dtype that the bytes of a `.npy` state, and the size of what follows."""
    stream = BytesIO(data)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = readers[version](stream)
    return (shape, str(dtype)), len(data) - stream.tell()
