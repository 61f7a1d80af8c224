"""Activation gradients off the wire of split training, one row an example, for attacks on training labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array, Captured, Knowledge
from adversary.tap.decode.observation import Kind
from adversary.tap.decode.read import observations


def gradients(paths: Sequence[Path], count: int, *, activations: bool = False, known: int = 0) -> Captured:
    """Rows (n, 2 + floats): seconds since the first row, label or -1 where it is not known, and the flat gradient.

    A service takes the mean of a batch's losses, which divides each example's gradient by the batch's size; here that
    is undone. Rows are in the order of captures, calls and messages; the time tells how clients took turns.

    Parameters
    ----------
    paths : sequence of Path
        Capture files of training clients' links.
    count : int
        How many examples they sent, each as often as it was sent.
    activations : bool
        Put each example's activation, flattened, behind its gradient: (n, 2 + 2 floats).
    known : int
        How many examples the attacker knows the label of: the first ones of the first capture. This protocol's labels
        cross the same link, so they are taken from there; all others are left unread.

    Raises
    ------
    adversary.tap.decode.pcap.CaptureError
        A file is no capture.
    """
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
        return Captured(np.zeros(0, np.float32), notes=("0 activation gradients seen",))
    width = rows[0].shape[1]
    kept = [batch for batch in rows if batch.shape[1] == width]
    notes = [f"{len(rows) - len(kept)} gradients of another shape left out"] * (len(kept) < len(rows))
    table = np.concatenate(kept)
    if len(table) != count:
        notes.append(f"{len(table)} gradients seen of {count} examples")
    table = np.nan_to_num(table[:count], posinf=0.0, neginf=0.0)
    return Captured(table, None, messages, size, tuple(notes))


def windows(times: Array, size: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """Rows in order of time, `size` at once: the head that made them is nearly the same within a window.

    Yields
    ------
    rows : numpy.ndarray
        Int64, `size` of them, or all there are; the last window reaches back over rows that it had before.
    fresh : numpy.ndarray
        Bool: those that no window had before.
    """
    order = np.argsort(times, kind="stable")
    for start in range(0, len(order), size):
        first = max(0, min(start, len(order) - size))
        yield order[first : first + size], np.arange(first, min(first + size, len(order))) >= start


def frequencies(knowledge: Knowledge) -> Array:
    """How frequent each class of the task is: public, as the service says what it is for; float32 (classes,)."""
    counts = np.bincount(knowledge.without_copies().labels, minlength=max(2, knowledge.classes))
    return np.asarray(counts / counts.sum(), np.float32)


def directions(gradient: Array) -> Array:
    """Rows scaled to length 1; a row of zeros stays."""
    return np.asarray(gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12), np.float32)


def _flat(tensor: npt.NDArray[np.generic]) -> Array:
    return tensor.reshape(len(tensor), -1).astype(np.float32)
