"""Map one encoder's latents onto another's by their statistics: rows of theirs (n, d) and own (m, d), no pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from adversary.attacks.harness.knowledge import Array

_MATCHED = 400


def quantiles(theirs: Array, own: Array) -> Array:
    """Match coordinates by the rank of their variance, and map each quantile by quantile."""
    mapped = np.empty_like(theirs)
    for source, goal in zip(theirs.var(0).argsort(), own.var(0).argsort(), strict=True):
        rank = theirs[:, source].argsort().argsort() / max(1, len(theirs) - 1)
        mapped[:, goal] = np.quantile(own[:, goal], rank)
    return mapped


def axes(theirs: Array, own: Array) -> Array:
    """Match principal axes by the rank of their variance, each turned so that its skewness is positive."""
    (white, _, _), (_, scale, mean) = _principal(theirs), _principal(own)
    return np.asarray(white @ scale + mean, np.float32)


def assigned(theirs: Array, own: Array, turns: int = 10) -> Array:
    """Refine `axes`: assign some of the victims' latents to own ones, rotate by Procrustes, and repeat."""
    from scipy.linalg import orthogonal_procrustes
    from scipy.optimize import linear_sum_assignment

    (white, _, _), (goal, scale, mean) = _principal(theirs), _principal(own)
    n = min(_MATCHED, len(white), len(goal))
    some, turn = goal[:n], np.eye(white.shape[1])
    for _ in range(turns):
        _, match = linear_sum_assignment(-(white[:n] @ turn) @ some.T)
        turn, _ = orthogonal_procrustes(white[:n], some[match])
    return np.asarray(white @ turn @ scale + mean, np.float32)


ALIGNMENTS: dict[str, Callable[[Array, Array], Array]] = {
    "none": lambda theirs, own: theirs, "quantiles": quantiles, "axes": axes, "assigned": assigned,
}  # fmt: skip


def _principal(rows: Array) -> tuple[Array, Array, Array]:
    """Return whitened rows, the map back (without the mean), and the mean; flat directions stay 0."""
    mean = rows.mean(0)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov((rows - mean).T)) + 1e-12 * np.eye(rows.shape[1]))
    vectors = vectors[:, ::-1] * np.where(values[::-1] > 1e-8 * values[-1], 1, 0)
    deviation = np.sqrt(values[::-1])
    white = (rows - mean) @ vectors / deviation
    sign = np.where((white**3).sum(0) < 0, -1, 1)
    return white * sign, (vectors * deviation * sign).T, mean
