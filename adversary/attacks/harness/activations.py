"""Activations that crossed the wire, one row per input."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from adversary.tap.decode.events import StreamSeen
from adversary.tap.decode.observation import Kind
from wireleak.common.words import counted

Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
# A message: its call, and its number in the call.
Key = tuple[str, int]


@dataclass(frozen=True)
class Activations:
    """The captured activations of one device's inputs.

    Parameters
    ----------
    rows : numpy.ndarray
        Float32 (n, ...): one row per input, in stream order; (0,) when nothing was readable.
    places : numpy.ndarray
        Int64 (n,): the number of each row's input, from 0. An input has no row if its message cannot be decoded.
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
    places: Ints
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
    from adversary.tap.decode.rows import Rows

    numbers = Rows()
    sent: dict[Key, npt.NDArray[Any]] = {}
    answers: dict[Key, npt.NDArray[Any]] = {}
    for path in paths:
        for seen in numbers.observe(path):
            if seen.kind is Kind.ACTIVATION and seen.tensor.ndim:
                sent[seen.call, seen.sequence] = seen.tensor
            elif seen.kind is Kind.PREDICTION:
                answers[seen.call, seen.sequence] = seen.tensor
    if not sent:
        return Activations(np.zeros(0, np.float32), np.arange(0), notes=(f"0 activations seen: {_link(paths)}",))
    notes = []
    shape = next(iter(sent.values())).shape[1:]
    others = [key for key, tensor in sent.items() if tensor.shape[1:] != shape]
    for key in others:
        numbers.skip(*key)
        del sent[key]
    if others:
        notes.append(f"{counted(len(others), 'activation')} of another shape than {shape} left out")
    read = sum(map(len, sent.values()))
    if read != count:
        notes.append(f"{counted(read, 'activation')} seen of {counted(count, 'input')}")
    messages, size = len(sent), sum(tensor.nbytes for tensor in sent.values())
    ordered = placed(sent, numbers.number(count), count)
    if (unplaced := read - sum(len(sent[key]) for _, key in ordered)) and read <= count:
        notes.append(f"{counted(unplaced, 'activation')} left out, because inputs before them are missing")
    if not ordered:
        return Activations(np.zeros(0, np.float32), np.arange(0), notes=tuple(notes))
    predictions = _stack([answers.get(key) for _, key in ordered], [len(sent[key]) for _, key in ordered])
    places = np.concatenate([np.arange(row, min(row + len(sent[key]), count)) for row, key in ordered])
    rows, finite = _joined([sent.pop(key) for _, key in ordered], len(places))
    if not finite:
        notes.append("values that are not finite were read as 0")
    if predictions is not None:
        predictions = predictions[: len(rows)]
    return Activations(rows, places, predictions, messages, size, tuple(notes))


def placed(messages: Collection[Key], first: Mapping[str, Ints], count: int) -> list[tuple[int, Key]]:
    """Return messages with the row of their first example, in order; without those that have none of `count` rows.

    Parameters
    ----------
    messages : collection of (call, number)
    first : mapping of str to int64
        As `Rows.number` returns it.
    count : int
        Number of rows.
    """
    rows = ((int(first[call][number]), (call, number)) for call, number in messages)
    return sorted((row, key) for row, key in rows if 0 <= row < count)


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


def _stack(tensors: Sequence[npt.NDArray[Any] | None], lengths: Sequence[int]) -> Array | None:
    """Return the tensors as one, if all are there with these lengths and alike."""
    there = [tensor for tensor in tensors if tensor is not None and tensor.ndim]
    if [len(tensor) for tensor in there] != list(lengths) or len({tensor.shape[1:] for tensor in there}) != 1:
        return None
    return np.concatenate(there).astype(np.float32)


def _link(paths: Sequence[Path]) -> str:
    from adversary.tap.decode.read import events

    carried = {event.transport.value for event in events(paths, tensors=False) if isinstance(event, StreamSeen)}
    return f"the link is {' and '.join(sorted(carried))}" if carried else "the captures hold no connection"
