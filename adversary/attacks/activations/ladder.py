"""Ladder: attackers of rising capacity on one private attribute, each with its selectivity."""

from __future__ import annotations

from copy import copy
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.activations.perceptrons import SIZES, Perceptron, Size, drawn
from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.attribute import PrivateAttribute

Ints = npt.NDArray[np.int64]
_BITS = 6
_SIXTH = 6
_PERMUTATIONS = 5


class LadderOptions(BaseModel):
    """Settings of one rung."""

    model_config = ConfigDict(extra="forbid")
    model: Size = Field("mlp-300", description="Size of the rung's perceptron.")
    activation: Literal["tanh", "relu"] = Field("tanh", description="Activation function of the hidden units.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout of the hidden units.")
    examples: int | None = Field(None, ge=4, description="Number of pairs to train on; by default all captured pairs.")
    epochs: int = Field(100, ge=1, le=1000, description="Largest number of passes; the best on held-out rows is kept.")
    patience: int = Field(10, ge=1, description="Passes without improvement after which training stops.")
    learning_rate: float = Field(0.01, gt=0, description="Learning rate of SGD with momentum 0.9.")
    batch: int = Field(32, ge=1, description="Pairs per step.")
    selectivity: bool = Field(
        True, description="Also measure the accuracy on a control task, at the cost of two more fits."
    )


@register
class Ladder(ActivationAttack):
    """Infer a private attribute from an activation with one perceptron of a chosen size.

    Run once per rung, from logistic regression to two layers of 1,000, and once per number of pairs, it shows leakage
    against capacity and data. The settings are Elazar and Goldberg's: tanh, dropout 0.2, SGD with momentum, rate 0.01,
    the best of 100 epochs on held-out rows (of people it did not train on, where the study distinguishes people).

    The rung's selectivity is its accuracy minus the accuracy on a control task, both on held-out rows of people that it
    trained on. The control task gives every person one random label of the same frequencies (without people: every hash
    bucket of the input). A rung that also learns the control task knows the people, not the attribute.

    References
    ----------
    Elazar and Goldberg, "Adversarial Removal of Demographic Attributes from Text Data", EMNLP 2018; Hewitt and Liang,
    "Designing and Interpreting Probes with Control Tasks", EMNLP 2019.
    """

    name = "ladder"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER),
        sees=("activation",),
        knows=(Knows.SURROGATE, Knows.QUERIES),
    )
    target = PrivateAttribute
    options = LadderOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Train the rung on the attacker's pairs; then, for its selectivity, on both tasks with rows of all people."""
        every = knowledge.without_copies()
        chosen, judged = drawn(every, self.settings.examples, self.seed)
        known = every.take(chosen)
        assert known.attribute is not None
        self._classes = known.classes
        self._model = self._trained(known.seen, known.attribute, known.held_out())
        self.report["held_out_loss"] = self._loss(every.take(judged))
        self.report |= {"weights": self._model.weights, "epoch": self._model.epoch, "examples": len(known)}
        if self.settings.selectivity:
            self.report["measured"] = self._selectivity(known)

    @property
    def permutations(self) -> int:
        """Few: each trains a network."""
        return _PERMUTATIONS

    def permuted(self, knowledge: Knowledge, rng: np.random.Generator) -> Ladder:
        """Return the rung trained on the same pairs with permuted values; its selectivity is not measured."""
        every = knowledge.permuted(rng)
        chosen, _ = drawn(every, self.settings.examples, self.seed)
        known, other = every.take(chosen), copy(self)
        assert known.attribute is not None
        other._model, other.report = self._trained(known.seen, known.attribute, known.held_out()), {}
        return other

    def guess(self, activations: Array) -> Array:
        """Return probabilities (n, classes) from activations (n, *activation_shape)."""
        return self._model.guess(activations)

    def _loss(self, judged: Knowledge) -> float | None:
        """Return the cross-entropy in nats, or None without held-out rows."""
        assert judged.attribute is not None
        if not len(judged):
            return None
        right = self._model.guess(judged.seen)[np.arange(len(judged)), judged.attribute]
        return float(-np.log(np.maximum(right, 1e-12)).mean())

    def _trained(self, seen: Array, labels: Ints, held: npt.NDArray[np.bool_]) -> Perceptron:
        s = self.settings
        model = Perceptron(SIZES[s.model], self._classes, s.activation, s.dropout, self.seed)
        return model.fit(seen, labels, held, s.epochs, s.patience, s.learning_rate, s.batch)

    def _selectivity(self, known: Knowledge) -> dict[str, float]:
        """Measure the accuracy on the attribute, on the control task, and their difference (Hewitt and Liang 2019)."""
        assert known.attribute is not None
        rng = np.random.default_rng([self.seed, 3])
        people = buckets(known.inputs, rng) if known.groups is None else known.groups
        tasks = {"seen-people": known.attribute, "control-task": control_task(known.attribute, people, rng)}
        # Sixths of all rows, whichever person they come from: one tests, one stops the training, four train.
        part = rng.permutation(len(known)) % _SIXTH
        tested, rest = known.seen[part == 0], part != 0
        found = {
            name: self._trained(known.seen[rest], labels[rest], part[rest] == 1).guess(tested).argmax(1)
            for name, labels in tasks.items()
        }
        right = {f"{name}-accuracy": float(np.mean(found[name] == tasks[name][part == 0])) for name in tasks}
        return right | {"selectivity": right["seen-people-accuracy"] - right["control-task-accuracy"]}


def control_task(labels: Ints, people: Ints, rng: np.random.Generator) -> Ints:
    """Draw one random label per person, with the frequencies of the labels: int64 (n,)."""
    kinds, whose = np.unique(people, return_inverse=True)
    return np.asarray(rng.choice(labels, len(kinds))[whose], np.int64)


def buckets(inputs: Array, rng: np.random.Generator) -> Ints:
    """Assign each input to one of 64 buckets by the signs of six random projections: int64 (n,)."""
    flat = inputs.reshape(len(inputs), -1)
    signs = (flat - flat.mean(0)) @ rng.standard_normal((flat.shape[1], _BITS)) > 0
    return np.asarray(signs @ (1 << np.arange(_BITS)), np.int64)
