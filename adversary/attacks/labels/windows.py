"""Helpers of the attacks on training labels: windows in time, class frequencies, directions of gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array, Knowledge


def windows(times: Array, size: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """Yield rows in order of time, `size` at once: within a window, nearly the same head made them.

    Yields
    ------
    rows : numpy.ndarray
        Int64: `size` rows, or all if there are fewer; the last window repeats rows of the one before.
    fresh : numpy.ndarray
        Bool: rows that were in no window before.
    """
    order = np.argsort(times, kind="stable")
    for start in range(0, len(order), size):
        first = max(0, min(start, len(order) - size))
        yield order[first : first + size], np.arange(first, min(first + size, len(order))) >= start


def frequencies(knowledge: Knowledge) -> Array:
    """Return the frequency of each class of the task, float32 (classes,); it is public, as the task is."""
    counts = np.bincount(knowledge.without_copies().labels, minlength=max(2, knowledge.classes))
    return np.asarray(counts / counts.sum(), np.float32)


def directions(gradient: Array) -> Array:
    """Scale rows to length 1; a row of zeros stays zero."""
    return np.asarray(gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12), np.float32)
