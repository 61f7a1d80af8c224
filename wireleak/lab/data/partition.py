"""Partitions of examples among clients: IID, Dirichlet by label, or by whole values of an attribute or group.

Dirichlet draws, for each label, the clients' shares of it: Hsu, Qi, Brown 2019 (arXiv:1909.06335).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.registry import unknown
from wireleak.lab.data.dataset import DataError, Dataset, Ints
from wireleak.lab.data.roles import Roles

_HOW = ("iid", "dirichlet", "by_attribute", "by_group")
_REDRAWS = 100


@dataclass(frozen=True)
class Shard:
    """One client's private examples, as indices into the data set."""

    train: Ints
    evaluation: Ints


def partition(
    dataset: Dataset,
    indices: Ints,
    clients: int,
    how: str = "iid",
    *,
    alpha: float = 0.5,
    by: str | None = None,
    seed: int = 0,
    needed: Sequence[Ints] = (),
) -> list[Ints]:
    """Split a pool among clients: each example of `indices` goes to exactly one.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    indices : int64 (m,)
        The pool: indices into the data set.
    clients : int
        Number of clients; each gets at least one example.
    how : {"iid", "dirichlet", "by_attribute", "by_group"}
        `dirichlet` draws every task label's shares from Dir(alpha); `by_attribute` and `by_group` give each client
        whole values of `by`, in shards as even as the values allow.
    alpha : float
        Concentration of `dirichlet`; lower is more uneven.
    by : str, optional
        The attribute or group of `by_attribute` and `by_group`.
    seed : int
        Seed of the draw.
    needed : sequence of int64
        Sets of indices. A draw of `dirichlet` that leaves a client without an example of one of them is drawn again.

    Returns
    -------
    list of int64
        Sorted indices, one array a client.

    Raises
    ------
    DataError
        Too few examples or values, or an unknown `how` or `by`.
    """
    if how not in _HOW:
        raise DataError(f"data.partition: {unknown('partition', how, _HOW)}")
    if clients < 1 or len(indices) < clients:
        raise DataError(
            f"data.clients: {clients} clients need at least one example each, of {len(indices)}; take fewer clients"
        )
    rng = np.random.default_rng(seed)
    if how == "iid":
        owners = rng.permutation(np.arange(len(indices)) % clients)
    elif how == "dirichlet":
        kinds = [np.isin(indices, part) for part in (indices, *needed)]
        owners = _dirichlet(dataset.y[indices], clients, alpha, rng, kinds)
    elif by is None:
        raise DataError(f"data.by: is missing; partition '{how}' needs the name of the {how[3:]}")
    else:
        values = dataset.attribute(by).values if how == "by_attribute" else dataset.group(by)
        owners = _whole_values(values[indices], clients, by, rng)
    return [np.sort(indices[owners == client]) for client in range(clients)]


def shards(
    dataset: Dataset,
    roles: Roles,
    clients: int,
    how: str = "iid",
    *,
    alpha: float = 0.5,
    by: str | None = None,
    seed: int = 0,
) -> list[Shard]:
    """Partition training and evaluation examples together, so that each client evaluates on its own kind of data.

    The parameters are those of `partition`; the pool is the union of both roles. `iid` divides each role by itself, so
    that chance leaves no client without examples to evaluate on.

    Raises
    ------
    DataError
        As for `partition`, or a client got no training or no evaluation example.
    """
    both = [role for role in (roles.clients, roles.evaluation) if len(role)]
    pools = both if how == "iid" else [np.concatenate([roles.clients, roles.evaluation])]
    divided = [
        partition(dataset, pool, clients, how, alpha=alpha, by=by, seed=seed + place, needed=both)
        for place, pool in enumerate(pools)
    ]
    result = []
    for client, parts in enumerate(zip(*divided, strict=True)):
        held = np.concatenate(parts)
        shard = Shard(np.intersect1d(held, roles.clients), np.intersect1d(held, roles.evaluation))
        for kind, part, wanted in (
            ("training", shard.train, roles.clients),
            ("evaluation", shard.evaluation, roles.evaluation),
        ):
            if len(wanted) and not len(part):
                raise DataError(
                    f"data.partition: client {client} got no {kind} example; take more {kind} examples or fewer clients"
                )
        result.append(shard)
    return result


def _dirichlet(
    labels: Ints, clients: int, alpha: float, rng: np.random.Generator, kinds: Sequence[npt.NDArray[np.bool_]]
) -> Ints:
    if not alpha > 0:
        raise DataError(f"data.alpha: must be positive, not {alpha}")
    for _ in range(_REDRAWS):
        owners = np.empty(len(labels), np.int64)
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(clients, alpha))
            ends = np.rint(np.cumsum(shares) * len(members)).astype(np.int64)
            owners[members] = np.searchsorted(ends[:-1], np.arange(len(members)), side="right")
        if all(len(np.unique(owners[kind])) == clients for kind in kinds):
            return owners
    raise DataError(
        f"data.alpha: {alpha} leaves one of {clients} clients without examples; raise it or take fewer clients"
    )


def _whole_values(values: Ints, clients: int, by: str, rng: np.random.Generator) -> Ints:
    kinds, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(kinds) < clients:
        raise DataError(
            f"data.by: {by} has {len(kinds)} values, too few for {clients} clients; take at most {len(kinds)} clients"
        )
    owner = np.empty(len(kinds), np.int64)
    load = np.zeros(clients)
    # Shards stay even: the largest value goes first, each to the smallest shard so far; the seed breaks ties.
    order = rng.permutation(len(kinds))
    for kind in order[np.argsort(-counts[order], kind="stable")]:
        owner[kind] = np.argmin(load)
        load[owner[kind]] += counts[kind]
    return owner[numbers].astype(np.int64)
