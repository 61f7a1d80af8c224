"""How a server combines updates, for participants that imitate the result of theirs and the others'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array

Rule = Literal["mean", "median", "trimmed-mean", "krum"]


def join(
    updates: Sequence[Mapping[str, npt.NDArray[Any]]], rule: Rule, *, cut: float, malicious: int
) -> dict[str, Array]:
    """Combine several updates of equal weight into one.

    Parameters
    ----------
    updates : sequence of mapping of str to array
        By layer. All layers have the same names and shapes.
    rule : "mean", "median", "trimmed-mean" or "krum"
        Krum takes the update that is nearest to its nearest others (Blanchard et al., NeurIPS 2017); median and trimmed
        mean work by coordinate (Yin et al., ICML 2018).
    cut : float
        Share of values that the trimmed mean cuts off at either end.
    malicious : int
        Number of participants that Krum assumes to be malicious: it compares with all but this number plus two.

    Returns
    -------
    dict of str to array
        Float32.
    """
    if rule == "krum":
        return {name: np.asarray(value, np.float32) for name, value in updates[_krum(updates, malicious)].items()}
    return {name: _by_coordinate(np.stack([one[name] for one in updates]), rule, cut) for name in updates[0]}


def _by_coordinate(values: npt.NDArray[Any], rule: Rule, cut: float) -> Array:
    from scipy.stats import trim_mean

    if rule == "median":
        return np.asarray(np.median(values, 0), np.float32)
    return np.asarray(trim_mean(values, cut if rule == "trimmed-mean" else 0.0, axis=0), np.float32)


def _krum(updates: Sequence[Mapping[str, npt.NDArray[Any]]], malicious: int) -> int:
    rows = np.stack([np.concatenate([value.ravel() for value in one.values()]) for one in updates]).astype(np.float64)
    distances = np.square(rows[:, None] - rows).sum(-1)
    near = max(1, len(rows) - malicious - 2)
    # The first is the update itself, at distance 0.
    return int(np.sort(distances, 1)[:, 1 : near + 1].sum(1).argmin())
