"""Partitions of a pool of examples among clients: IID, Dirichlet by label, whole attribute or group values.

Dirichlet: Hsu, Qi, Brown 2019 (arXiv:1909.06335), proportions of each label drawn over the clients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
) -> list[Ints]:
    """Split a pool among clients: each example of `indices` goes to exactly one.

    Parameters
    ----------
    dataset : Dataset
        What `indices` index.
    indices : int64 (m,)
        The pool.
    clients : int
        How many; none is left empty.
    how : {"iid", "dirichlet", "by_attribute", "by_group"}
        `dirichlet` draws every task label's shares from Dir(alpha); `by_attribute` and `by_group` give each client
        whole values of `by`, sizes as even as the values allow.
    alpha : float
        Concentration of `dirichlet`; small is uneven.
    by : str, optional
        The attribute or group of `by_attribute` and `by_group`.
    seed : int
        Of the drawing.

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
        raise DataError(f"partition: {unknown('way', how, _HOW)}")
    if clients < 1 or len(indices) < clients:
        raise DataError(f"partition: {len(indices)} examples do not suffice for {clients} clients")
    rng = np.random.default_rng(seed)
    if how == "iid":
        owners = rng.permutation(np.arange(len(indices)) % clients)
    elif how == "dirichlet":
        owners = _dirichlet(dataset.y[indices], clients, alpha, rng)
    elif by is None:
        raise DataError(f"partition: {how} needs the name of the {how[3:]} in `by`")
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
    """Partition the clients' training and evaluation examples alike, so that each evaluates on its own kind of data.

    Parameters as for `partition`; the pool is the union of both roles. A client that got no training or no evaluation
    example is a DataError.
    """
    pool = np.concatenate([roles.clients, roles.evaluation])
    result = []
    for client, held in enumerate(partition(dataset, pool, clients, how, alpha=alpha, by=by, seed=seed)):
        shard = Shard(np.intersect1d(held, roles.clients), np.intersect1d(held, roles.evaluation))
        for kind, part, wanted in (
            ("training", shard.train, roles.clients),
            ("evaluation", shard.evaluation, roles.evaluation),
        ):
            if len(wanted) and not len(part):
                raise DataError(f"partition: client {client} got no {kind} example; give more, or take fewer clients")
        result.append(shard)
    return result


def _dirichlet(labels: Ints, clients: int, alpha: float, rng: np.random.Generator) -> Ints:
    if not alpha > 0:
        raise DataError(f"partition: alpha must be positive, not {alpha}")
    for _ in range(_REDRAWS):
        owners = np.empty(len(labels), np.int64)
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(clients, alpha))
            ends = np.rint(np.cumsum(shares) * len(members)).astype(np.int64)
            owners[members] = np.searchsorted(ends[:-1], np.arange(len(members)), side="right")
        if len(np.unique(owners)) == clients:
            return owners
    raise DataError(f"partition: alpha {alpha} leaves one of {clients} clients empty; raise it or take fewer")


def _whole_values(values: Ints, clients: int, by: str, rng: np.random.Generator) -> Ints:
    kinds, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(kinds) < clients:
        raise DataError(f"partition: {by} has {len(kinds)} values here, too few for {clients} clients")
    owner = np.empty(len(kinds), np.int64)
    load = np.zeros(clients)
    # The largest value first, each to the client that has least, keeps sizes even; ties fall by the seed.
    order = rng.permutation(len(kinds))
    for kind in order[np.argsort(-counts[order], kind="stable")]:
        owner[kind] = np.argmin(load)
        load[owner[kind]] += counts[kind]
    return owner[numbers].astype(np.int64)
