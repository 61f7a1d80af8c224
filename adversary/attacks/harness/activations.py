"""Activations that crossed the wire, one row per input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from adversary.tap.decode.events import StreamSeen
from adversary.tap.decode.observation import Kind
from wireleak.common.words import counted

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Activations:
    """The captured activations of one device's inputs.

    Parameters
    ----------
    rows : numpy.ndarray
        Float32 (n, ...): one row per input, in stream order; (0,) when nothing was readable.
    predictions : numpy.ndarray or None
        The answers, float32 (n, classes), if they were seen for every row.
    messages : int
        Messages (or TLS records) that were used.
    bytes : int
        Bytes of these messages.
    notes : tuple of str
        Remarks for the reader of meta.json.
    """

    rows: Array
    predictions: Array | None = None
    messages: int = 0
    bytes: int = 0
    notes: tuple[str, ...] = ()


def activations(paths: Sequence[Path], count: int) -> Activations:
    """Read the activations in the captures, one row per input, in the order of the captures and calls.

    Parameters
    ----------
    paths : sequence of Path
        Capture files of one party's link.
    count : int
        Number of inputs that the party sent; further rows are left out.

    Raises
    ------
    adversary.tap.decode.packets.pcap.CaptureError
        A file is not a capture.
    """
    from adversary.tap.decode.read import observations

    calls: dict[str, _Call] = {}
    for path in paths:
        for seen in observations([path]):
            call = calls.setdefault(seen.call, _Call())
            if seen.kind is Kind.ACTIVATION:
                call.activations.append(seen.tensor)
            elif seen.kind is Kind.PREDICTION:
                call.predictions.append(seen.tensor)
    sent = [tensor for call in calls.values() for tensor in call.activations]
    if not sent:
        return Activations(np.zeros(0, np.float32), notes=(f"0 activations seen: {_link(paths)}",))
    shape = sent[0].shape[1:]
    kept = [tensor for tensor in sent if tensor.shape[1:] == shape]
    others = len(sent) - len(kept)
    notes = [f"{counted(others, 'activation')} of another shape than {shape} left out"] if others else []
    seen_rows = sum(map(len, kept))
    if seen_rows != count:
        notes.append(f"{counted(seen_rows, 'activation')} seen of {counted(count, 'input')}")
    answers = [tensor for call in calls.values() for tensor in call.predictions]
    predictions = _stack(answers) if len(kept) == len(sent) else None
    if predictions is not None:
        predictions = predictions[:count] if len(predictions) >= seen_rows else None
    messages, size = len(kept), sum(tensor.nbytes for tensor in kept)
    calls.clear()
    sent.clear()
    rows, finite = _joined(kept, min(seen_rows, count))
    if not finite:
        notes.append("values that are not finite were read as 0")
    return Activations(rows, predictions, messages, size, tuple(notes))


def _joined(tensors: list[npt.NDArray[Any]], count: int) -> tuple[Array, bool]:
    """Return the first `count` rows of all tensors, and whether all are finite; each tensor is freed once copied."""
    rows, start, finite = np.empty((count, *tensors[0].shape[1:]), np.float32), 0, True
    tensors.reverse()
    while tensors:
        tensor = tensors.pop()
        part = rows[start : start + len(tensor)]
        part[:] = tensor[: len(part)]
        if not np.isfinite(part).all():
            finite = False
            np.nan_to_num(part, copy=False, posinf=0.0, neginf=0.0)
        start += len(part)
    return rows, finite


@dataclass
class _Call:
    activations: list[npt.NDArray[Any]] = field(default_factory=list)
    predictions: list[npt.NDArray[Any]] = field(default_factory=list)


def _stack(tensors: list[npt.NDArray[Any]]) -> Array | None:
    if not tensors or len({tensor.shape[1:] for tensor in tensors}) > 1:
        return None
    return np.concatenate(tensors).astype(np.float32)


def _link(paths: Sequence[Path]) -> str:
    from adversary.tap.decode.read import events

    carried = {event.transport.value for event in events(paths, tensors=False) if isinstance(event, StreamSeen)}
    return f"the link is {' and '.join(sorted(carried))}" if carried else "the captures hold no connection"
