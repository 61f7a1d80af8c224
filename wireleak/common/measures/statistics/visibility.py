"""How much a participant's update differs from the others', as a server could notice a malicious one.

Norm clipping and bounds look at the norm against the others' median (Sun et al., "Can You Really Backdoor Federated
Learning?", 2019). Similarity checks look at the cosine with the others' mean (Cao et al., "FLTrust", NDSS 2021).
Spectral filters look at the outlier score (Shejwalkar and Houmansadr, "Manipulating the Byzantine", NDSS 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Update = Mapping[str, npt.NDArray[Any]]
# The paper takes 10,000 coordinates too: the singular vector of all would cost more and say the same.
_COORDINATES = 10_000


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


def outlier_scores(updates: Sequence[Update]) -> Doubles:
    """Spectral outlier score of Divide-and-Conquer; parameters and errors as for `norm_ratios`.

    The updates are centred and projected on their top right singular vector, the direction in which they differ most.
    The score is the squared projection. Of longer updates only 10,000 coordinates count, the same ones in every round.
    The paper makes several passes, and draws other coordinates for each.

    Returns
    -------
    numpy.ndarray
        Float64 (participants,), 0 or more, in units of squared weights: compare within a round only. The scores of two
        participants are always equal, because both are as far from their mean.

    References
    ----------
    Shejwalkar, Houmansadr, "Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for Federated
    Learning", NDSS 2021, algorithm 2.
    """
    rows = _rows(updates)
    if rows.shape[1] > _COORDINATES:
        # A generator of its own: a server without a seed also compares rounds on the same coordinates.
        rows = rows[:, np.random.default_rng(0).choice(rows.shape[1], _COORDINATES, replace=False)]
    centred = rows - rows.mean(0)
    # Projections on the top right singular vector are the top left one times the singular value. The left ones are
    # eigenvectors of the small matrix of inner products.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    return np.asarray(max(values[-1], 0.0) * np.square(vectors[:, -1]))


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
