"""The null of a measure of dependence: labels in an order that is independent of their rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def null_orders(labels: Ints, groups: Ints | None, count: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Draw orders of rows, int64 (n,), under which `labels[order]` is independent of everything else.

    A label that is the same within every group moves between whole groups: shuffling rows would draw labels that no
    group can have, and a null that is far too narrow.

    Parameters
    ----------
    labels : int64 (n,)
        Labels to permute.
    groups : int64 (n,) or None
        Group of each row, such as its person.
    count : int
        Number of orders.
    rng : numpy.random.Generator
        Source of the random orders.
    """
    whole, number = np.arange(len(labels)), np.arange(len(labels))
    if groups is not None:
        _, first, of_row = np.unique(groups, return_index=True, return_inverse=True)
        if (labels[first][of_row] == labels).all():
            whole, number = first, of_row
    for _ in range(count):
        yield rng.permutation(whole)[number].astype(np.int64)
