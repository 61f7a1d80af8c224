"""Activation gradients that crossed the wire in split training, one row per example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.activations import Key, placed
from adversary.tap.decode.observation import Kind
from wireleak.common.words import counted

Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Gradients:
    """The captured activation gradients of training examples, n in all.

    Parameters
    ----------
    values : numpy.ndarray
        Float32 (n, floats): each example's own gradient, flattened.
    times : numpy.ndarray
        Float32 (n,): seconds since the first row.
    labels : numpy.ndarray
        Int64 (n,): the label if the attacker knows it, else -1.
    activations : numpy.ndarray or None
        Float32 (n, floats): the activation that each gradient answers, if requested.
    places : numpy.ndarray or None
        Int64 (n,): the number of each row's example, from 0; None: 0 to n - 1.
    messages, bytes : int
        Messages with gradients that were used, and their bytes.
    notes : tuple of str
        Remarks for the reader of meta.json.
    """

    values: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    times: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    labels: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    activations: Array | None = None
    places: Ints | None = None
    messages: int = 0
    bytes: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)


def gradients(paths: Sequence[Path], count: int, *, activations: bool = False, known: int = 0) -> Gradients:
    """Read the activation gradients of training clients' links, one row per example.

    A service takes the mean of a batch's losses, which divides each example's gradient by the batch's size; this
    function undoes that. Rows are in the order of captures, calls and messages; their times show the clients' turns.

    Parameters
    ----------
    paths : sequence of Path
        Capture files of training clients' links.
    count : int
        Number of examples that they sent; repeated examples count each time.
    activations : bool
        Whether to read each example's activation too.
    known : int
        Number of examples whose label the attacker knows: the first ones of the first capture. This protocol's labels
        cross the same link, so the known ones are taken from it; all others are left unread.

    Raises
    ------
    adversary.tap.decode.packets.pcap.CaptureError
        A file is not a capture.
    """
    from adversary.tap.decode.rows import Rows

    numbers = Rows()
    batches: dict[Key, Array] = {}
    messages, size, start = 0, 0, None
    for path in paths:
        sent: dict[tuple[str, int], Array] = {}
        labels: dict[tuple[str, int], npt.NDArray[np.generic]] = {}
        for seen in numbers.observe(path):
            if not seen.tensor.ndim or not seen.tensor.size:
                continue
            if activations and seen.kind is Kind.ACTIVATION:
                sent[seen.call, seen.sequence] = _flat(seen.tensor)
            if seen.kind is Kind.LABEL and len(labels) < known:
                labels[seen.call, seen.sequence] = seen.tensor
            if seen.kind is not Kind.ACTIVATION_GRADIENT:
                continue
            start = seen.time if start is None else start
            facts = np.full((len(seen.tensor), 2), (seen.time - start, -1), np.float32)
            own_labels = labels.pop((seen.call, seen.sequence), np.zeros(0))[:known]
            facts[: len(own_labels), 1], known = own_labels, known - len(own_labels)
            columns = [facts, _flat(seen.tensor) * np.float32(len(seen.tensor))]
            if activations:
                if (own := sent.pop((seen.call, seen.sequence), None)) is None or len(own) != len(seen.tensor):
                    continue
                columns.append(own)
            batches[seen.call, seen.sequence] = np.concatenate(columns, 1)
            messages, size = messages + 1, size + seen.tensor.nbytes
    if not batches:
        return Gradients(notes=("0 activation gradients seen",))
    width = next(iter(batches.values())).shape[1]
    others = [key for key, batch in batches.items() if batch.shape[1] != width]
    for key in others:
        numbers.skip(*key)
        del batches[key]
    notes = [f"{counted(len(others), 'gradient')} of another shape left out"] if others else []
    if (read := sum(map(len, batches.values()))) != count:
        notes.append(f"{counted(read, 'gradient')} seen of {counted(count, 'example')}")
    ordered = placed(batches, numbers.number(count), count)
    if not ordered:
        return Gradients(notes=tuple(notes))
    table = np.concatenate([batches[key][: count - row] for row, key in ordered])
    places = np.concatenate([np.arange(row, min(row + len(batches[key]), count)) for row, key in ordered])
    table = np.nan_to_num(table, posinf=0.0, neginf=0.0)
    floats = (width - 2) // 2 if activations else width - 2
    values, behind = table[:, 2 : 2 + floats], table[:, 2 + floats :] if activations else None
    return Gradients(values, table[:, 0], table[:, 1].astype(np.int64), behind, places, messages, size, tuple(notes))


def _flat(tensor: npt.NDArray[np.generic]) -> Array:
    return tensor.reshape(len(tensor), -1).astype(np.float32)
