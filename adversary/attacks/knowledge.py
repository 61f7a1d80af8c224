"""What an attacker has: granted files, and what it captured of its own device and of the victims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from adversary.tap.events import StreamSeen
from adversary.tap.observation import Kind
from adversary.tap.read import events, observations

Array = npt.NDArray[np.float32]
_HELD_OUT = 6


@dataclass(frozen=True)
class Captured:
    """What captures hold of one device's inputs.

    Parameters
    ----------
    rows : numpy.ndarray
        Float32 (n, ...): one row an input, in stream order; (0,) when nothing was readable.
    predictions : numpy.ndarray or None
        The answers, float32 (n, classes), where they were seen for every row.
    observations : int
        Messages (or TLS records) that were used.
    bytes : int
        Their bytes.
    notes : tuple of str
        What a reader should know.
    """

    rows: Array
    predictions: Array | None = None
    observations: int = 0
    bytes: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Knowledge:
    """The attacker's own pairs: what it sent, and what it captured of that.

    Parameters
    ----------
    seen : numpy.ndarray
        Float32 (n, ...), captured from the attacker's own device.
    inputs : numpy.ndarray
        Float32 (n, *input_shape), what the device was given; row i belongs to row i of `seen`.
    labels : numpy.ndarray
        Int64 (n,), task labels.
    attribute : numpy.ndarray or None
        Int64 (n,), the private attribute under attack.
    classes : int
        Number of the attribute's values, as far as the attacker knows them; 0 without an attribute.
    augmented : numpy.ndarray
        Bool (n,): rows that are transformed copies. They may train, never validate.
    seed : int
        Every random choice of an attack follows from it.
    """

    seen: Array
    inputs: Array
    labels: npt.NDArray[np.int64]
    attribute: npt.NDArray[np.int64] | None
    classes: int
    augmented: npt.NDArray[np.bool_]
    seed: int

    def __len__(self) -> int:
        return len(self.inputs)

    def held_out(self) -> npt.NDArray[np.bool_]:
        """Mask (n,) of the sixth of the untransformed rows on which the attacker validates its choices."""
        own = np.flatnonzero(~self.augmented)
        mask = np.zeros(len(self), bool)
        mask[np.random.default_rng(self.seed).permutation(own)[: len(own) // _HELD_OUT]] = True
        return mask

    def join(self, seen: Array) -> Knowledge:
        """The pairs of the first inputs with `seen`, row by row."""
        n = min(len(seen), len(self))
        return replace(self, seen=seen)._take(slice(n))

    def without_copies(self) -> Knowledge:
        """Only the rows that are no transformed copies."""
        return self._take(~self.augmented)

    def _take(self, rows: slice | npt.NDArray[np.bool_]) -> Knowledge:
        return replace(
            self,
            seen=self.seen[rows] if len(self.seen) else self.seen,
            inputs=self.inputs[rows],
            labels=self.labels[rows],
            attribute=None if self.attribute is None else self.attribute[rows],
            augmented=self.augmented[rows],
        )


def surrogate(path: Path, target: str, seed: int) -> Knowledge:
    """Load a granted `surrogate.npz`; nothing is captured yet.

    Raises
    ------
    ValueError
        The file is unreadable, lacks an array or the target, or its arrays differ in length.
    """
    arrays = _load(path)
    for name in ("x", "y"):
        if name not in arrays:
            raise ValueError(f"granted.surrogate: {path} has no array {name!r}")
    n = len(arrays["x"])
    attribute = None
    if target != "input":
        if f"attribute:{target}" not in arrays:
            have = sorted(name.removeprefix("attribute:") for name in arrays if name.startswith("attribute:"))
            raise ValueError(f"target: {path} has no attribute {target!r}; choose one of {', '.join(have) or 'none'}")
        attribute = arrays[f"attribute:{target}"].astype(np.int64)
        if attribute.min(initial=0) < 0:
            raise ValueError(f"target: attribute {target!r} in {path} is negative; number its values from 0")
    augmented = arrays.get("augmented", np.zeros(n)).astype(bool)
    for name, array in (("y", arrays["y"]), ("augmented", augmented), (f"attribute:{target}", attribute)):
        if array is not None and array.shape != (n,):
            raise ValueError(f"granted.surrogate: {name!r} in {path} has shape {array.shape}; 'x' has {n} rows")
    if not n or augmented.all() or not np.isfinite(arrays["x"]).all():
        raise ValueError(f"granted.surrogate: 'x' in {path} is not finite, or holds no row but augmented ones")
    inputs, labels = arrays["x"].astype(np.float32), arrays["y"].astype(np.int64)
    classes = 0 if attribute is None else int(attribute.max()) + 1
    return Knowledge(np.zeros(0, np.float32), inputs, labels, attribute, classes, augmented, seed)


def activations(paths: Sequence[Path], count: int) -> Captured:
    """Activations that crossed the wire in the captures, one row an input, in the order of the captures and calls.

    Parameters
    ----------
    paths : sequence of Path
        Capture files of one party's link.
    count : int
        How many inputs the party sent; rows beyond are left out.

    Raises
    ------
    adversary.tap.pcap.CaptureError
        A file is no capture.
    """
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
        return Captured(np.zeros(0, np.float32), notes=(f"0 activations seen: {_link(paths)}",))
    shape = sent[0].shape[1:]
    kept = [tensor for tensor in sent if tensor.shape[1:] == shape]
    notes = [f"{len(sent) - len(kept)} activations of another shape than {shape} left out"] * (len(kept) < len(sent))
    rows = np.concatenate(kept).astype(np.float32)
    if not np.isfinite(rows).all():
        notes.append("values that are not finite were read as 0")
        rows = np.nan_to_num(rows, posinf=0.0, neginf=0.0)
    if len(rows) != count:
        notes.append(f"{len(rows)} activations seen of {count} inputs")
    answers = [tensor for call in calls.values() for tensor in call.predictions]
    predictions = _stack(answers) if len(kept) == len(sent) else None
    if predictions is not None:
        predictions = predictions[:count] if len(predictions) >= len(rows) else None
    size = sum(tensor.nbytes for tensor in kept)
    return Captured(rows[:count], predictions, len(kept), size, tuple(notes))


@dataclass
class _Call:
    activations: list[npt.NDArray[Any]] = field(default_factory=list)
    predictions: list[npt.NDArray[Any]] = field(default_factory=list)


def _stack(tensors: list[npt.NDArray[Any]]) -> Array | None:
    if not tensors or len({tensor.shape[1:] for tensor in tensors}) > 1:
        return None
    return np.concatenate(tensors).astype(np.float32)


def _link(paths: Sequence[Path]) -> str:
    carried = {event.transport.value for event in events(paths, tensors=False) if isinstance(event, StreamSeen)}
    return f"the link is {' and '.join(sorted(carried))}" if carried else "the captures hold no connection"


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"granted.surrogate: {path} is no readable .npz file: {error}") from None
