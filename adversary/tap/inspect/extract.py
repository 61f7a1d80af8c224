"""Write the tensors of one kind in captures as an array, for tools that cannot read pcap files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from adversary.tap.decode.observation import Kind, Observation
from adversary.tap.decode.rows import Rows
from wireleak.common.files import write_arrays
from wireleak.common.registry import unknown


def rows(paths: Sequence[Path], kind: Kind) -> npt.NDArray[Any]:
    """Return the tensors of one kind, one row per example, ordered by capture, then by call, then within the call.

    A label whose message cannot be decoded is -1, so that the others keep their place.

    Raises
    ------
    adversary.tap.decode.packets.pcap.CaptureError
        A file is not a capture.
    ValueError
        There are no such tensors, or they differ in shape.
    """
    tensors: list[npt.NDArray[Any]] = []
    numbers, places = Rows(), []
    for path in paths:
        calls: dict[str, list[Observation]] = {}
        for seen in numbers.observe(path):
            if seen.kind is kind and seen.tensor.ndim:
                calls.setdefault(seen.call, []).append(seen)
        tensors += [one.tensor for call in calls.values() for one in call]
        places += [(one.call, one.sequence) for call in calls.values() for one in call]
    if not tensors:
        raise ValueError(f"--kind: the captures hold no {kind.value}; `wireleak inspect` lists what they hold")
    shapes = {tensor.shape[1:] for tensor in tensors}
    if len(shapes) > 1:
        raise ValueError(
            f"--kind: the captures hold {kind.value} tensors of different shapes, {sorted(shapes)}; name "
            "captures of one shape"
        )
    if kind is not Kind.LABEL or shapes != {()}:
        return np.concatenate(tensors)
    first = numbers.number(0)
    labels = np.full(numbers.examples, -1, np.int64)
    for tensor, (call, number) in zip(tensors, places, strict=True):
        labels[first[call][number] :][: len(tensor)] = tensor
    return labels


def extract(kind: str, output: Path, captures: Sequence[Path]) -> int:
    """Write `rows` atomically into an .npz file, as an array with the kind's name; return the number of rows."""
    known = [member.value for member in Kind]
    if kind not in known:
        raise ValueError(f"--kind: {unknown('kind', kind, known)}")
    array = rows(captures, Kind(kind))
    write_arrays(output, {kind: array})
    return len(array)
