"""How a server combines updates, for participants that imitate the result of theirs and the others'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.knowledge import Array

Rule = Literal["mean", "median", "trimmed-mean", "krum", "norm-clipping"]


class Aggregation(BaseModel):
    """How a server combines updates."""

    model_config = ConfigDict(extra="forbid")
    rule: Rule = Field("mean", description="How the server combines updates; a participant imitates it.")
    cut: float = Field(0.25, ge=0, lt=0.5, description="Share that the server's trimmed mean cuts off at either end.")
    malicious: int = Field(1, ge=0, description="Participants that the server's Krum assumes to be malicious.")
    clipping_norm: float = Field(1.0, gt=0, description="Longest update, over all layers, under norm clipping.")


MEAN = Aggregation(rule="mean")


def join(updates: Sequence[Mapping[str, npt.NDArray[Any]]], how: Aggregation) -> dict[str, Array]:
    """Combine several updates of equal weight into one.

    Parameters
    ----------
    updates : sequence of mapping of str to array
        By layer. All layers have the same names and shapes. Norm clipping needs changes to the model, not new weights.
    how : Aggregation
        Krum takes the update that is nearest to its nearest others, all but the malicious ones and two (Blanchard et
        al., NeurIPS 2017). Median and trimmed mean work by coordinate (Yin et al., ICML 2018). Norm clipping takes the
        mean of updates that it scaled down to a norm (Sun et al., "Can You Really Backdoor Federated Learning?", 2019).

    Returns
    -------
    dict of str to array
        Float32.
    """
    if how.rule == "krum":
        return {name: np.asarray(value, np.float32) for name, value in updates[_krum(updates, how.malicious)].items()}
    if how.rule == "norm-clipping":
        updates = [_clipped(one, how.clipping_norm) for one in updates]
    return {name: _by_coordinate(np.stack([one[name] for one in updates]), how) for name in updates[0]}


def _clipped(update: Mapping[str, npt.NDArray[Any]], norm: float) -> dict[str, npt.NDArray[Any]]:
    length = float(np.linalg.norm([np.linalg.norm(value) for value in update.values()]))
    return {name: value * (norm / max(norm, length)) for name, value in update.items()}


def _by_coordinate(values: npt.NDArray[Any], how: Aggregation) -> Array:
    from scipy.stats import trim_mean

    if how.rule == "median":
        return np.asarray(np.median(values, 0), np.float32)
    return np.asarray(trim_mean(values, how.cut if how.rule == "trimmed-mean" else 0.0, axis=0), np.float32)


def _krum(updates: Sequence[Mapping[str, npt.NDArray[Any]]], malicious: int) -> int:
    rows = np.stack([np.concatenate([value.ravel() for value in one.values()]) for one in updates]).astype(np.float64)
    distances = np.square(rows[:, None] - rows).sum(-1)
    near = max(1, len(rows) - malicious - 2)
    # The first is the update itself, at distance 0.
    return int(np.sort(distances, 1)[:, 1 : near + 1].sum(1).argmin())
