"""How much of the input a linear reader predicts from a layer's gradient: the share of its variance, held out.

Mo et al. (arXiv 2105.13929) separate a gradient's *original* information, about the input, from its *latent*
information, about properties outside the task. The paper's own measure was not available, so this is ours: ridge
regression from the gradient to the leading principal components of the mean input behind it (of the input, where a
gradient is of one), fitted and chosen on some inputs and judged on others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.readers.reading import split_rows
from wireleak.common.measures.statistics.permutation import null_orders
from wireleak.common.memory import blocks

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
# Of the fitting rows' mean square: from nearly no penalty to nearly all.
PENALTIES = 10.0 ** np.arange(-6, 3)


@dataclass(frozen=True)
class Readout:
    """A share of variance, and its null distribution.

    Parameters
    ----------
    share : float
        R^2 over all components together: 1 is all of their variance, 0 is as good as their mean; below 0 is worse.
    null : tuple of float
        The same for targets in random order.
    """

    share: float
    null: tuple[float, ...]


def components(inputs: Floats, count: int = 10) -> tuple[Doubles, Doubles]:
    """Mean (d,) and the leading `count` principal directions (d, k) of inputs (n, ...)."""
    flat = np.asarray(inputs, np.float64).reshape(len(inputs), -1)
    centre = flat.mean(axis=0)
    _, _, directions = np.linalg.svd(flat - centre, full_matrices=False)
    return centre, directions[:count].T


def linear_readout(
    rows: Floats,
    targets: Floats,
    groups: Ints | None = None,
    *,
    permutations: int = 20,
    folds: int = 3,
    seed: int = 0,
) -> Readout:
    """R^2 of the best ridge regression from `rows` to `targets`, cross-fitted, and its null.

    In each fold a quarter of the other rows chooses the penalty. Wide rows cost no more than their Gram matrix.

    Parameters
    ----------
    rows : (n, d)
        Gradients of one layer.
    targets : (n, k)
        The input behind each gradient, in components whose variances add up.
    groups : int64 (n,), optional
        No group is both fitted and judged on.
    permutations, folds, seed : int

    Raises
    ------
    ValueError
        Lengths differ, or the targets do not vary.
    """
    if len(rows) != len(targets) or targets.ndim != 2:
        raise ValueError(f"targets: shape {targets.shape} for {len(rows)} rows; give one row of targets per row")
    wanted = np.asarray(targets, np.float64)
    if not np.ptp(wanted, axis=0).any():
        raise ValueError("targets: every row has the same targets; give targets that vary")
    coordinates = _coordinates(rows)
    alike = np.zeros(len(rows), np.int64)
    parts = [_Part(coordinates, *split) for split in split_rows(alike, groups, folds, seed)]
    orders = null_orders(np.arange(len(rows)), None, permutations, np.random.default_rng(seed))
    return Readout(_share(parts, wanted), tuple(_share(parts, wanted[order]) for order in orders))


def _share(parts: list[_Part], targets: Doubles) -> float:
    errors = [part.errors(targets) for part in parts]
    left, total = np.sum(errors, axis=0)
    return float(1 - left / total)


class _Part:
    """One fold; its factorisation serves every penalty and every order of the targets."""

    def __init__(self, rows: Doubles, fitting: Ints, choosing: Ints, held: Ints) -> None:
        self._fitting, self._choosing, self._held = fitting, choosing, held
        self._left, singular, right = np.linalg.svd(rows[fitting] - rows[fitting].mean(0), full_matrices=False)
        real = singular > max(float(singular.max(initial=0)), 1e-300) * 1e-7
        self._left, singular, right = self._left[:, real], singular[real], right[real]
        penalties = PENALTIES[:, None] * (singular**2).sum() / len(fitting)
        self._shrunk = singular / (singular**2 + penalties)
        self._choose, self._judge = ((rows[part] - rows[fitting].mean(0)) @ right.T for part in (choosing, held))

    def errors(self, targets: Doubles) -> tuple[float, float]:
        """Squared error on the held-out rows, and that of the fitting rows' mean."""
        centre = targets[self._fitting].mean(0)
        seen = self._left.T @ (targets[self._fitting] - centre)
        chosen = targets[self._choosing] - centre
        losses = [((chosen - self._choose @ (shrunk[:, None] * seen)) ** 2).sum() for shrunk in self._shrunk]
        best = self._shrunk[int(np.argmin(losses))][:, None] * seen
        held = targets[self._held] - centre
        return float(((held - self._judge @ best) ** 2).sum()), float((held**2).sum())


def _coordinates(rows: Floats) -> Doubles:
    """Rows in an orthonormal basis of their span, (n, at most n): all products between rows stay what they were."""
    if rows.shape[1] <= len(rows):
        return np.asarray(rows, np.float64)
    gram = np.zeros((len(rows), len(rows)))
    for part in blocks(rows.shape[1], 16 * len(rows)):
        centred = rows[:, part] - rows[:, part].mean(axis=0)
        gram += centred @ centred.T
    values, vectors = np.linalg.eigh(gram)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), np.float64)
