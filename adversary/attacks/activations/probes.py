"""Probes from captured rows to a private attribute: logistic regression and a small perceptron."""

from __future__ import annotations

import warnings
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.attack import PERMUTATIONS
from adversary.attacks.harness.knowledge import Array, Knowledge
from wireleak.common.measures.statistics.permutation import null_orders
from wireleak.common.standard import divisors

_OF_PERCEPTRON = 5


class ProbeOptions(BaseModel):
    """Settings of a probe."""

    model_config = ConfigDict(extra="forbid")
    components: int = Field(
        256, ge=1, le=4096, description="Number of principal components that are kept of wider activations."
    )
    hidden: int = Field(
        128, ge=0, le=4096, description="Hidden units of the perceptron; with 0, only logistic regression is fitted."
    )
    strengths: tuple[float, ...] = Field(
        (0.01, 0.1, 1.0),
        min_length=1,
        description="Inverse regularisation strengths among which logistic regression chooses.",
    )


class Probe:
    """The candidate with the lowest log-loss on the attacker's held-out rows, fitted again on all of its rows."""

    def __init__(self, options: ProbeOptions, seed: int) -> None:
        self._options = options
        self._seed = seed
        self.report: dict[str, Any] = {}
        # The last rows and their projection, shared with the copies that `permuted` makes.
        self._asked: list[Array] = []
        # The kind of probe that is fitted to permuted values, once it is chosen.
        self._null: list[str] = []

    def fit(self, knowledge: Knowledge) -> None:
        """Standardise, project, choose, fit."""
        knowledge = knowledge.without_copies()
        assert knowledge.attribute is not None
        self._classes = knowledge.classes
        flat = knowledge.seen.reshape(len(knowledge), -1)
        self._mean, self._scale = flat.mean(0), divisors(flat.std(0), len(flat))
        self._axes = principal_axes((flat - self._mean) / self._scale, self._options.components)
        features = self._features(knowledge.seen)
        labels, held = knowledge.attribute, knowledge.held_out()
        self._own, self._labels, self._groups, self._held = features, labels, knowledge.groups, held
        chosen, scores = self._choose(labels)
        self._model = _fitted(self._candidates()[chosen], features, labels)
        self.report = {"probe": chosen, "validation_log_loss": scores, "components": features.shape[1]}

    @property
    def permutations(self) -> int:
        """Number of fits to permuted values: twenty, or five of a perceptron, which takes 50 times longer to fit."""
        return _OF_PERCEPTRON if "perceptron" in self._null else PERMUTATIONS

    def permuted(self, rng: np.random.Generator) -> Probe:
        """Return a probe fitted to the same projected rows with permuted values.

        Its kind is chosen as the probe's own was, once for all permutations: without anything to learn, the most
        regularised one does best on held-out rows.
        """
        probe = copy(self)
        (order,) = null_orders(self._labels, self._groups, 1, rng)
        values = self._labels[order]
        if not self._null:
            self._null.append(self._choose(values)[0])
        probe._model = _fitted(self._candidates()[self._null[0]], self._own, values)
        return probe

    def guess(self, seen: Array) -> Array:
        """Return probabilities (n, classes)."""
        # All fits to permuted values guess for the same rows.
        if not (self._asked and np.array_equal(self._asked[0], seen)):
            self._asked[:] = [seen, self._features(seen)]
        return self._spread(self._model, self._asked[1])

    def _choose(self, labels: npt.NDArray[np.int64]) -> tuple[str, dict[str, float]]:
        """Return the candidate with the lowest log-loss on held-out rows, and the loss of each."""
        scores = {name: self._score(make, self._own, labels, self._held) for name, make in self._candidates().items()}
        return min(scores, key=lambda name: scores[name]), scores

    def _candidates(self) -> dict[str, Any]:
        # scikit-learn is imported where it is used: listing attacks costs no import of it.
        from sklearn.linear_model import LogisticRegression
        from sklearn.neural_network import MLPClassifier

        found: dict[str, Any] = {
            f"logistic C={strength:g}": lambda strength=strength: LogisticRegression(C=strength, max_iter=200)
            for strength in self._options.strengths
        }
        if self._options.hidden:
            found["perceptron"] = lambda: MLPClassifier(
                (self._options.hidden,), alpha=0.1, batch_size=64, max_iter=20, random_state=self._seed
            )
        return found

    def _score(self, make: Any, features: Array, labels: npt.NDArray[np.int64], held: npt.NDArray[np.bool_]) -> float:
        if not held.any():
            return 0.0
        guess = self._spread(_fitted(make, features[~held], labels[~held]), features[held])
        return float(-np.log(np.maximum(guess[np.arange(len(guess)), labels[held]], 1e-6)).mean())

    def _features(self, seen: Array) -> Array:
        projected = (seen.reshape(len(seen), -1) - self._mean) / self._scale @ self._axes
        return np.asarray(projected, np.float32)

    def _spread(self, model: Any, features: Array) -> Array:
        guess = np.zeros((len(features), self._classes), np.float32)
        guess[:, model.classes_] = model.predict_proba(features)
        return guess


class _Constant:
    """The probe of an attribute that never varies."""

    def __init__(self, value: int) -> None:
        self.classes_ = np.array([value])

    def predict_proba(self, features: Array) -> Array:
        return np.ones((len(features), 1), np.float32)


def principal_axes(rows: Array, count: int) -> Array:
    """Return the directions (features, count) of the largest variance of centred `rows`.

    Scaled so that the projections have variance 1 on average. Works on the smaller of the two Gram matrices,
    which for a wide activation is rows by rows.
    """
    from scipy.linalg import eigh

    n, width = rows.shape
    keep = min(count, n - 1, width) or 1
    side = rows @ rows.T if n < width else rows.T @ rows
    values, vectors = eigh(side, subset_by_index=(len(side) - keep, len(side) - 1))
    real = values > max(values[-1], 0) * 1e-6
    values, vectors = values[real], vectors[:, real]
    axes = rows.T @ (vectors / np.sqrt(values)) if n < width else vectors
    unit = np.sqrt(max(values.sum(), 1e-12) / (n * max(1, len(values))))
    return np.asarray(axes / unit, np.float32)


def _fitted(make: Any, features: Array, labels: npt.NDArray[np.int64]) -> Any:
    if len(np.unique(labels)) == 1:
        return _Constant(int(labels[0]))
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make().fit(features, labels)
