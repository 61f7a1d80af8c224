"""Activation gradients that crossed the wire in split training, one row per example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

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
    messages, bytes : int
        Messages with gradients that were used, and their bytes.
    notes : tuple of str
        Remarks for the reader of meta.json.
    """

    values: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    times: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    labels: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    activations: Array | None = None
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
    from adversary.tap.decode.read import observations

    rows: list[Array] = []
    messages, size, start = 0, 0, None
    for path in paths:
        calls: dict[str, list[Array]] = {}
        sent: dict[tuple[str, int], Array] = {}
        labels: dict[tuple[str, int], npt.NDArray[np.generic]] = {}
        for seen in observations([path]):
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
            calls.setdefault(seen.call, []).append(np.concatenate(columns, 1))
            messages, size = messages + 1, size + seen.tensor.nbytes
        rows += [batch for call in calls.values() for batch in call]
    if not rows:
        return Gradients(notes=("0 activation gradients seen",))
    width = rows[0].shape[1]
    kept = [batch for batch in rows if batch.shape[1] == width]
    others = len(rows) - len(kept)
    notes = [f"{counted(others, 'gradient')} of another shape left out"] if others else []
    table = np.concatenate(kept)
    if len(table) != count:
        notes.append(f"{counted(len(table), 'gradient')} seen of {counted(count, 'example')}")
    table = np.nan_to_num(table[:count], posinf=0.0, neginf=0.0)
    floats = (width - 2) // 2 if activations else width - 2
    values, behind = table[:, 2 : 2 + floats], table[:, 2 + floats :] if activations else None
    return Gradients(values, table[:, 0], table[:, 1].astype(np.int64), behind, messages, size, tuple(notes))


def _flat(tensor: npt.NDArray[np.generic]) -> Array:
    return tensor.reshape(len(tensor), -1).astype(np.float32)
