"""Subspace distance: how far the gradients of batches with a property turn away from those without.

Of the paper that names the measure (Mo et al., arXiv 2105.13929) only the abstract was available: this definition is
ours. The rows' leading right singular directions span a subspace, and principal angles lie between two subspaces.
Finite samples of one distribution never span the same subspace, so the distance of two halves of one kind is the null.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]
ENERGY, LARGEST = 0.9, 20


@dataclass(frozen=True)
class Distance:
    """Principal angles between two subspaces.

    `angles` is float64 (k,), radians, ascending, from 0 to pi / 2; empty where one side has no direction at all.
    """

    angles: Doubles

    @property
    def chordal(self) -> float:
        """Root mean of the squared sines: 0 for the same subspace, 1 for orthogonal ones."""
        return float(np.sqrt((np.sin(self.angles) ** 2).mean())) if len(self.angles) else 0.0

    @property
    def geodesic(self) -> float:
        """Euclidean length of the angles, radians."""
        return float(np.linalg.norm(self.angles))

    @property
    def largest(self) -> float:
        """The largest angle, radians."""
        return float(self.angles.max(initial=0.0))


@dataclass(frozen=True)
class Shift:
    """Draws of the distance `between` kinds, and `within` the kind without the property: of two of its halves."""

    between: tuple[Distance, ...]
    within: tuple[Distance, ...]

    @property
    def chordal(self) -> float:
        """Mean chordal distance between kinds."""
        return float(np.mean([one.chordal for one in self.between]))

    @property
    def null(self) -> float:
        """Mean chordal distance within the kind without the property."""
        return float(np.mean([one.chordal for one in self.within]))


def subspace_distance(first: Rows, second: Rows, dimension: int | None = None) -> Distance:
    """Principal angles between the leading directions of two sets of rows, each about its own mean.

    Parameters
    ----------
    first, second : (n, d), (m, d)
        Gradients. Wide ones cost no more than their Gram matrix.
    dimension : int, optional
        Directions a side; by default what holds 90 % of the energy of the side that needs more, at most 20.

    Raises
    ------
    ValueError
        Widths differ, or a side has fewer than two rows.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise ValueError(
            f"rows {first.shape} and {second.shape}: give two or more rows on each side, all of the same width"
        )
    gram = _gram(np.concatenate([first, second]))
    return _distance(gram, np.arange(len(first)), np.arange(len(first), len(gram)), dimension)


def subspace_shift(having: Rows, without: Rows, *, draws: int = 10, seed: int = 0) -> Shift:
    """Return the distance between rows with a property and rows without, and that of two halves of the latter.

    Fewer rows span a noisier subspace, so the distance between kinds uses as many rows as the null: also halves, drawn
    `draws` times. All draws compare subspaces of one dimension, that of the whole kinds.

    Parameters
    ----------
    having, without : (n, d), (m, d)
        Gradients of one layer.
    draws, seed : int
        Of the halves.

    Raises
    ------
    ValueError
        Widths differ, or a kind has fewer than four rows.
    """
    if having.ndim != 2 or having.shape[1:] != without.shape[1:] or min(len(having), len(without)) < 4:
        raise ValueError(
            f"rows {having.shape} and {without.shape}: give four or more of each kind, all of the same width"
        )
    gram = _gram(np.concatenate([having, without]))
    rng, one, other = np.random.default_rng(seed), np.arange(len(having)), np.arange(len(having), len(gram))
    half = min(len(one), len(other)) // 2
    dimension = min(max(_needed(_centred(gram, kind, kind)) for kind in (one, other)), half - 1)
    between, within = [], []
    for _ in range(draws):
        a, b = rng.permutation(one)[:half], rng.permutation(other)
        between.append(_distance(gram, a, b[:half], dimension))
        within.append(_distance(gram, b[half : 2 * half], b[:half], dimension))
    return Shift(tuple(between), tuple(within))


def _gram(rows: Rows) -> Doubles:
    # About the common mean first: what all rows share would drown what they differ by.
    rows = rows - rows.mean(axis=0)
    return np.asarray(rows @ rows.T, np.float64)


def _centred(gram: Doubles, one: npt.NDArray[np.intp], other: npt.NDArray[np.intp]) -> Doubles:
    block = gram[np.ix_(one, other)]
    return np.asarray(block - block.mean(0) - block.mean(1, keepdims=True) + block.mean(), np.float64)


def _needed(block: Doubles) -> int:
    values = np.maximum(np.linalg.eigvalsh(block)[::-1], 0.0)
    held = values.cumsum() / max(values.sum(), 1e-300)
    return int(min(np.searchsorted(held, ENERGY) + 1, LARGEST, max(1, (values > values[0] * 1e-10).sum())))


def _distance(gram: Doubles, one: npt.NDArray[np.intp], other: npt.NDArray[np.intp], k: int | None) -> Distance:
    sides = [_centred(gram, rows, rows) for rows in (one, other)]
    k = max(map(_needed, sides)) if k is None else k
    # The right singular directions of G are G' v / s, v and s^2 being eigenvectors and eigenvalues of G G'.
    scaled = []
    for side in sides:
        values, vectors = np.linalg.eigh(side)
        real = values > max(values[-1], 0) * 1e-10
        scaled.append((vectors[:, real] / np.sqrt(values[real]))[:, -k:])
    if not min(part.shape[1] for part in scaled):
        return Distance(np.zeros(0))
    cosines = np.linalg.svd(scaled[1].T @ _centred(gram, other, one) @ scaled[0], compute_uv=False)
    return Distance(np.sort(np.arccos(np.clip(cosines, 0.0, 1.0))))
