"""Word set: predict the words of a text from its activation, by a perceptron with one output per word."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.activations.perceptrons import SIZES, Perceptron, Size, drawn
from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.measures.scores.words_found import set_f1, word_sets
from wireleak.common.targets.input import Input

_THRESHOLDS = np.round(np.arange(0.02, 0.7, 0.02), 2)


class WordSetOptions(BaseModel):
    """Settings of `WordSet`."""

    model_config = ConfigDict(extra="forbid")
    model: Size = Field("mlp-300", description="Size of the attacker's perceptron.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout of the hidden units.")
    examples: int | None = Field(None, ge=4, description="Number of pairs to train on; by default all captured pairs.")
    rarest: int = Field(
        3, ge=1, description="Number of the attacker's texts that must hold a word before it is guessed."
    )
    epochs: int = Field(60, ge=1, le=1000, description="Largest number of passes; the best on held-out rows is kept.")
    patience: int = Field(5, ge=1, description="Passes without improvement after which training stops.")
    learning_rate: float = Field(0.01, gt=0, description="Learning rate of SGD with momentum 0.9.")
    batch: int = Field(32, ge=1, description="Pairs per step.")


@register
class WordSet(ActivationAttack):
    """Predict the words of a text from the activation that its device sent; their order stays unknown.

    The attack inverts a text's embedding by multi-label classification, as the paper does: every word of the attacker's
    own texts has one output, trained by binary cross-entropy on pairs from the wire. A word is guessed if its
    probability is above a threshold, the one with the best F1 on the attacker's held-out texts.

    References
    ----------
    Song and Raghunathan, "Information Leakage in Embedding Models", CCS 2020, section 3.2, the black-box attack.
    """

    name = "word-set"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER),
        sees=("activation",),
        knows=(Knows.SURROGATE, Knows.QUERIES),
    )
    target = Input
    options = WordSetOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Train on the attacker's pairs, and choose the threshold on those it held out.

        Raises
        ------
        ValueError
            The inputs are not texts of word numbers, or no word is in enough of them.
        """
        s, every = self.settings, knowledge.without_copies()
        if not are_numbered(every.inputs):
            raise ValueError(
                f"attack: word-set reads texts of word numbers, not inputs of shape {every.inputs.shape[1:]}"
            )
        chosen, judged = drawn(every, s.examples, self.seed)
        known, self._length = every.take(chosen), every.inputs.shape[1]
        self._highest = int(every.inputs.max())
        held, sets = known.held_out(), word_sets(known.inputs, self._highest)
        self._words = np.flatnonzero(sets[~held].sum(0) >= s.rarest)
        if not len(self._words):
            raise ValueError(f"options.rarest: no word is in {s.rarest} of the {len(known)} texts; give fewer")
        labels = sets[:, self._words].astype(np.float32)
        self._model = Perceptron(SIZES[s.model], len(self._words), "tanh", s.dropout, self.seed)
        self._model.fit(known.seen, labels, held, s.epochs, s.patience, s.learning_rate, s.batch)
        checks = held if held.any() else ~held
        likely, truth = self._model.guess(known.seen[checks]), sets[checks]
        self._threshold = float(max(_THRESHOLDS, key=lambda threshold: self._f1(likely, truth, threshold)))
        told = {"weights": self._model.weights, "epoch": self._model.epoch, "words": len(self._words)}
        self.report |= told | {"threshold": self._threshold, "examples": len(known)}
        self.report["held_out_loss"] = self._loss(every.take(judged))

    def guess(self, activations: Array) -> Array:
        """Return word numbers (n, length), likeliest first, then 0, from activations (n, *activation_shape)."""
        likely = self._model.guess(activations)
        order = np.argsort(-likely, axis=1, kind="stable")[:, : self._length]
        texts = np.where(np.take_along_axis(likely, order, 1) > self._threshold, self._words[order], 0)
        found = np.zeros((len(activations), self._length), np.float32)
        found[:, : texts.shape[1]] = texts
        return found

    def _loss(self, judged: Knowledge) -> float | None:
        """Return 1 - F1, or None without held-out texts."""
        if not len(judged):
            return None
        return 1 - self._f1(self._model.guess(judged.seen), word_sets(judged.inputs, self._highest), self._threshold)

    def _f1(self, likely: Array, truth: npt.NDArray[np.bool_], threshold: float) -> float:
        sets = np.zeros_like(truth)
        sets[:, self._words] = likely > threshold
        return float(set_f1(sets, truth).mean())
