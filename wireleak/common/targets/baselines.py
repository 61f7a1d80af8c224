"""Guesses that an attack must beat: the prior, linear algebra and look-up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wireleak.common.gpu import product
from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.measures.scores.words_found import set_f1, word_sets
from wireleak.common.memory import BLOCK_BYTES, blocks
from wireleak.common.targets.target import Array, Examples, Ints


def nearest(seen: Array, inputs: Array, queries: Array) -> Array:
    """Input whose activation is nearest to each query's (Euclidean, standardised): (n, *input_shape).

    Distances are summed over blocks of features and taken for blocks of queries, so memory stays near 200 MiB.
    """
    z, q = seen.reshape(len(seen), -1), queries.reshape(len(queries), -1)
    closest = np.empty(len(q), np.int64)
    for asked in blocks(len(q), 4 * len(z)):
        closest[asked] = _distances(z, q[asked]).argmin(1)
    found: Array = inputs[closest]
    return found


def nearest_memory(rows: int, queries: int) -> int:
    """Estimate the memory that `nearest` takes beyond its arguments and result: distances, and blocks."""
    return min(4 * rows * queries, BLOCK_BYTES) + 3 * BLOCK_BYTES


def _distances(z: Array, q: Array) -> Array:
    """Squared distances (queries, rows) in units of each feature's deviation, less each query's own length."""
    found = np.zeros((len(q), len(z)), np.float32)
    for part in blocks(z.shape[1], 8 * (len(z) + len(q))):
        own, asked = (rows[:, part].astype(np.float32, copy=False) for rows in (z, q))
        mean, scale = own.mean(0), own.std(0) + np.float32(1e-6)
        own, asked = (own - mean) / scale, (asked - mean) / scale
        found += (own**2).sum(1) - 2 * product(asked, own.T)
    return found


def mean_input(own: Array) -> Array:
    """Return the mean of inputs (n, ...), (1, ...); of texts, their commonest words."""
    return np.asarray((common_words(own) if are_numbered(own) else own.mean(0))[None])


def common_words(texts: Array) -> Array:
    """The best guess of a text's words that is the same for all: float32 (length,), commonest first, 0 behind.

    Of word numbers (n, length) it takes as many of the commonest as have the best F1 on those texts.
    """
    length, sets = texts.shape[1], word_sets(texts, int(texts.max()))
    order = np.argsort(-sets.sum(0), kind="stable")[:length]
    counts = range(1, len(order) + 1)
    scores = [set_f1(np.isin(np.arange(sets.shape[1]), order[:some])[None], sets).mean() for some in counts]
    found = np.zeros(length, np.float32)
    best = int(np.argmax(scores)) + 1
    found[:best] = order[:best]
    return found


def background(own: Array, count: int) -> Array:
    """Return an empty input, `count` times: the median of all values of inputs (n, ...) everywhere.

    Of more than 256 MiB of values, those of some inputs, evenly spaced.
    """
    some = own[:: max(1, -(-own.nbytes // (4 * BLOCK_BYTES)))]
    return np.full((count, *own.shape[1:]), np.median(some), np.float32)


def derangement(count: int, seed: int) -> npt.NDArray[np.int64]:
    """A random permutation without a fixed point (for `count` of at least 2)."""
    order = np.random.default_rng(seed).permutation(count)
    partner = np.empty(count, np.int64)
    partner[order] = np.roll(order, 1)
    return partner


def majority_per_prediction(own: Examples, predictions: Array) -> Array:
    """Frequencies among the attacker's inputs of the predicted task label (Coavoux et al., EMNLP 2018)."""
    assert own.attribute is not None
    overall = frequencies(own.attribute, own.classes)
    table = np.stack(
        [frequencies(own.attribute[own.labels == label], own.classes, overall) for label in range(predictions.shape[1])]
    )
    found: Array = table[predictions.argmax(1)]
    return found


def frequencies(values: Ints | None, classes: int, otherwise: Array | None = None) -> Array:
    """Return how frequent each value is, float32 (classes,); `otherwise` where there are none."""
    assert values is not None
    if not len(values) and otherwise is not None:
        return otherwise
    counts = np.bincount(values, minlength=classes).astype(np.float32)
    return np.asarray(counts / counts.sum(), np.float32)
