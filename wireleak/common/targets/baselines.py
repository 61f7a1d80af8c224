"""Guesses that an attack must beat: the prior, linear algebra and look-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.measures.scores.words_found import set_f1, word_sets
from wireleak.common.targets.target import Array, Examples, Ints

_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_MOST = 4096


@dataclass(frozen=True)
class Ridge:
    """A fitted linear decoder.

    Solves `min_W |X - Z W|^2 / n + strength |W|^2` for standardised Z and centred X (Hoerl and Kennard 1970).
    """

    strength: float
    error: float
    _mean: Array
    _scale: Array
    _weights: Array
    _offset: Array

    def guess(self, seen: Array) -> Array:
        """Flattened inputs (n, inputs) from activations (n, ...)."""
        flat = seen.reshape(len(seen), -1)
        return ((flat - self._mean) / self._scale @ self._weights + self._offset).astype(np.float32)


def ridge(seen: Array, inputs: Array, held: npt.NDArray[np.bool_], strengths: tuple[float, ...] = _STRENGTHS) -> Ridge:
    """Fit a linear decoder; its strength is the one with the least error on the held-out rows.

    Parameters
    ----------
    seen : numpy.ndarray
        Float32 (n, ...).
    inputs : numpy.ndarray
        Float32 (n, ...).
    held : numpy.ndarray
        Bool (n,): rows that only choose the strength.
    strengths : tuple of float
        Candidates in rising order. The search starts in the middle and walks while the error falls.

    Notes
    -----
    Activations wider than 4,096 floats are solved in the dual, on the first 4,096 rows at most.
    """
    z, x = seen.reshape(len(seen), -1), inputs.reshape(len(inputs), -1)
    rows = np.flatnonzero(~held)
    dual = z.shape[1] > min(_MOST, len(rows))
    if dual:
        rows = rows[:_MOST]
    mean, scale = z[rows].mean(0), z[rows].std(0) + np.float32(1e-6)
    # Single precision halves the time of wide activations; narrow ones are exact for nothing.
    precision = np.float32 if min(len(rows), z.shape[1]) > 1024 else np.float64
    scaled, offset = ((z[rows] - mean) / scale).astype(precision), x[rows].mean(0)
    centred = (x[rows] - offset).astype(precision)
    gram = (scaled @ scaled.T if dual else scaled.T @ scaled) / len(rows)
    goal = centred if dual else scaled.T @ centred / len(rows)
    checks = held if held.any() else ~held

    def attempt(strength: float) -> Ridge:
        weights = _solve(gram, goal, strength)
        if dual:
            weights = scaled.T @ weights / len(rows)
        fitted = Ridge(strength, 0.0, mean, scale, weights.astype(np.float32), offset)
        error = float(np.mean((fitted.guess(seen[checks]) - x[checks]) ** 2))
        return Ridge(strength, error, mean, scale, fitted._weights, offset)

    start = len(strengths) // 2 - 1 if len(strengths) > 1 else 0
    best = attempt(strengths[start])
    for way in (strengths[:start][::-1], strengths[start + 1 :]):
        before = best
        for strength in way:
            fitted = attempt(strength)
            if not fitted.error < best.error:
                break
            best = fitted
        if best is not before:
            break
    return best


def nearest(seen: Array, inputs: Array, queries: Array) -> Array:
    """Input whose activation is nearest to each query's (Euclidean, standardised): (n, *input_shape)."""
    z, q = seen.reshape(len(seen), -1), queries.reshape(len(queries), -1)
    mean, scale = z.mean(0), z.std(0) + np.float32(1e-6)
    z, q = (z - mean) / scale, (q - mean) / scale
    found: Array = inputs[np.argmin((z**2).sum(1) - 2 * q @ z.T, axis=1)]
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
    """Return an empty input, `count` times: the median of all values of inputs (n, ...) everywhere."""
    return np.full((count, *own.shape[1:]), np.median(own), np.float32)


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


def _solve(gram: npt.NDArray[Any], goal: npt.NDArray[Any], strength: float) -> npt.NDArray[Any]:
    # scipy is imported where it is used: listing attacks and targets costs no import of it.
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    damped = gram.copy()
    damped.flat[:: len(damped) + 1] += strength
    try:
        return np.asarray(cho_solve(cho_factor(damped, overwrite_a=True, check_finite=False), goal, check_finite=False))
    except LinAlgError:
        return np.asarray(np.linalg.lstsq(gram + strength * np.eye(len(gram)), goal)[0])
