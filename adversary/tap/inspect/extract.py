"""Write what captures hold of one kind of tensor as arrays, for tools that read no pcap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from adversary.tap.decode.observation import Kind
from adversary.tap.decode.read import observations
from wireleak.common.files import write_arrays


def rows(paths: Sequence[Path], kind: Kind) -> npt.NDArray[Any]:
    """Tensors of one kind, one row an example: by capture, then by call, then in the order of the call.

    Raises
    ------
    adversary.tap.decode.pcap.CaptureError
        A file is no capture.
    ValueError
        There are none, or they differ in shape.
    """
    found: list[npt.NDArray[Any]] = []
    for path in paths:
        calls: dict[str, list[npt.NDArray[Any]]] = {}
        for seen in observations([path]):
            if seen.kind is kind:
                calls.setdefault(seen.call, []).append(seen.tensor)
        found += [tensor for call in calls.values() for tensor in call]
    if not found:
        raise ValueError(f"--kind: the captures hold no {kind.value}; `wireleak inspect` lists what they hold")
    shapes = {tensor.shape[1:] for tensor in found}
    if len(shapes) > 1:
        raise ValueError(
            f"--kind: the captures hold tensors of kind {kind.value} of different shapes: {sorted(shapes)}"
        )
    return np.concatenate(found)


def extract(kind: str, output: Path, captures: Sequence[Path]) -> int:
    """Write `rows` into an .npz file under the kind's name, atomically; return how many there are."""
    known = [one.value for one in Kind]
    if kind not in known:
        raise ValueError(f"--kind: no kind called {kind!r}; choose from {', '.join(known)}")
    array = rows(captures, Kind(kind))
    write_arrays(output, {kind: array})
    return len(array)
