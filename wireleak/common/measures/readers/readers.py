"""Readers of V-information: families of classifiers that turn features into probabilities of a label."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Fitted = Callable[[Rows], Doubles]
TREES = 50
STEPS, BATCH = 300, 32


@dataclass(frozen=True)
class Reader:
    """One family with one setting.

    Parameters
    ----------
    family : str
        Name of the family.
    fit : callable
        (rows (n, d), labels (n,) with at least two values, seed) -> rows to probabilities of the values that occur.
    rotated : bool
        Blind to the choice of axes, so that rows may be rotated into the span of the fitting rows.
    """

    family: str
    fit: Callable[[Rows, Ints, int], Fitted]
    rotated: bool


def _logistic(strength: float) -> Reader:
    def fit(rows: Rows, labels: Ints, seed: int) -> Fitted:
        from sklearn.linear_model import LogisticRegression

        fitted: Fitted = LogisticRegression(C=strength, max_iter=200).fit(rows, labels).predict_proba
        return fitted

    return Reader("ridge logistic", fit, rotated=True)


def _perceptron(decay: float) -> Reader:
    def fit(rows: Rows, labels: Ints, seed: int) -> Fitted:
        from sklearn.neural_network import MLPClassifier

        batch = min(BATCH, len(rows))
        epochs = max(1, round(STEPS * batch / len(rows)))
        made = MLPClassifier(
            (64,), alpha=decay, batch_size=batch, max_iter=epochs, learning_rate_init=0.003, random_state=seed
        )
        fitted: Fitted = made.fit(rows, labels).predict_proba
        return fitted

    return Reader("perceptron 64", fit, rotated=True)


def _forest() -> Reader:
    def fit(rows: Rows, labels: Ints, seed: int) -> Fitted:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.isotonic import IsotonicRegression

        forest = RandomForestClassifier(TREES, min_samples_leaf=3, oob_score=True, random_state=seed).fit(rows, labels)
        # Out of bag, each row is judged by trees that did not see it: what calibration needs, at one forest's cost.
        judged = np.nan_to_num(forest.oob_decision_function_)
        curves = [
            IsotonicRegression(out_of_bounds="clip").fit(judged[:, k], labels == value)
            for k, value in enumerate(forest.classes_)
        ]

        def probabilities(wanted: Rows) -> Doubles:
            raw = forest.predict_proba(wanted)
            each = np.column_stack([curve.predict(raw[:, k]) for k, curve in enumerate(curves)])
            total = each.sum(axis=1, keepdims=True)
            return np.asarray(np.where(total > 0, each / np.maximum(total, 1e-12), 1 / len(curves)), np.float64)

        return probabilities

    return Reader("random forest", fit, rotated=False)


READERS: tuple[Reader, ...] = (
    *(_logistic(strength) for strength in (1e-3, 1e-2, 1e-1, 1.0)),
    _perceptron(decay=1.0),
    _forest(),
)


def fit_reader(reader: Reader, rows: Rows, labels: Ints, classes: int, seed: int) -> Fitted:
    """Fit a reader and let it give probabilities (n, classes), also where some class, or all but one, did not occur."""
    present: Any = np.unique(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: how long a reader trains is part of its family
        inner = reader.fit(rows, labels, seed) if len(present) > 1 else lambda wanted: np.ones((len(wanted), 1))

    def probabilities(wanted: Rows) -> Doubles:
        spread = np.zeros((len(wanted), classes))
        spread[:, present] = inner(wanted)
        return spread

    return probabilities


def standardiser(fitting: Rows, largest: float | None = None) -> Callable[[Rows], Rows]:
    """Rows to mean 0 and variance 1 of the fitting rows, feature by feature; constant features become 0.

    A feature is constant next to the `largest` deviation, by default that of these features.
    """
    centre, spread = fitting.mean(axis=0), fitting.std(axis=0)
    most = float(spread.max()) if largest is None else largest
    scale = np.where(spread > 1e-6 * max(most, 1e-12), 1 / np.maximum(spread, 1e-30), 0)
    return lambda rows: np.asarray((rows - centre) * scale, np.float32)


def rotation(fitting: Rows) -> Callable[[Rows], Rows]:
    """Rows (n, d) in an orthonormal basis of the fitting rows' span, scaled to variance 1 on average.

    A ridge penalty gives no weight outside that span, so wide features cost no more than there are rows.
    """
    basis = np.linalg.qr(fitting.T)[0] if fitting.shape[1] > len(fitting) else np.eye(fitting.shape[1])
    size = float(np.sqrt((fitting**2).sum() / max(fitting.shape[0] * basis.shape[1], 1))) or 1.0
    basis = (basis / size).astype(np.float32)
    return lambda rows: np.asarray(rows @ basis, np.float32)
