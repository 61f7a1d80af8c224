"""Helpers of the attacks on training labels: windows in time, class frequencies, directions of gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array, Knowledge


def windows(times: Array, size: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """Rows in order of time, `size` at once: the head that made them is nearly the same within a window.

    Yields
    ------
    rows : numpy.ndarray
        Int64, `size` of them, or all there are; the last window reaches back over rows that it had before.
    fresh : numpy.ndarray
        Bool: those that no window had before.
    """
    order = np.argsort(times, kind="stable")
    for start in range(0, len(order), size):
        first = max(0, min(start, len(order) - size))
        yield order[first : first + size], np.arange(first, min(first + size, len(order))) >= start


def frequencies(knowledge: Knowledge) -> Array:
    """How frequent each class of the task is: public, as the service says what it is for; float32 (classes,)."""
    counts = np.bincount(knowledge.without_copies().labels, minlength=max(2, knowledge.classes))
    return np.asarray(counts / counts.sum(), np.float32)


def directions(gradient: Array) -> Array:
    """Rows scaled to length 1; a row of zeros stays."""
    return np.asarray(gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12), np.float32)
