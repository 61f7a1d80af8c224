"""How much a participant's update differs from the others', as a server could notice a malicious one.

Norm against the others' median is what norm clipping and bounds look at, cosine with the others' mean what similarity
checks do (Cao et al., "FLTrust", NDSS 2021; Sun et al., "Can You Really Backdoor Federated Learning?", 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Update = Mapping[str, npt.NDArray[Any]]


def norm_ratios(updates: Sequence[Update]) -> Doubles:
    """Length of each update by the median length of the others.

    Parameters
    ----------
    updates : sequence of mapping of str to array
        One round's updates of at least two participants: by layer, new weights minus old ones. Layers of integers are
        ignored.

    Returns
    -------
    numpy.ndarray
        Float64 (participants,). Infinite where only the others' are all zero, 1 where all are.

    Raises
    ------
    ValueError
        Fewer than two updates, or their layers differ in names or shapes.
    """
    lengths = np.linalg.norm(_rows(updates), axis=1)
    return np.array([_ratio(length, np.median(others)) for length, others in _each_and_others(lengths)])


def cosines(updates: Sequence[Update]) -> Doubles:
    """Cosine of each update with the mean of the others; parameters and errors as for `norm_ratios`.

    Returns
    -------
    numpy.ndarray
        Float64 (participants,) in [-1, 1]; 0 where either is zero.
    """
    rows = _rows(updates)
    found = []
    for row, others in _each_and_others(rows):
        mean = others.mean(0)
        lengths = np.linalg.norm(row) * np.linalg.norm(mean)
        found.append(row @ mean / lengths if lengths else 0.0)
    return np.clip(found, -1.0, 1.0)


def _each_and_others(values: Doubles) -> list[tuple[Any, Doubles]]:
    return [(values[at], np.delete(values, at, axis=0)) for at in range(len(values))]


def _ratio(length: float, median: np.floating[Any]) -> float:
    if not median:
        return float("inf") if length else 1.0
    return float(length / median)


def _rows(updates: Sequence[Update]) -> Doubles:
    shapes = [{name: np.shape(value) for name, value in one.items()} for one in updates]
    if len(updates) < 2 or any(other != shapes[0] for other in shapes):
        raise ValueError("updates: give at least two participants' updates, all with the same layers")
    floats = [name for name, value in updates[0].items() if value.dtype.kind == "f"]
    return np.stack([np.concatenate([np.zeros(0), *(one[name].ravel() for name in floats)]) for one in updates])
