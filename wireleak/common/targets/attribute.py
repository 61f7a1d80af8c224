"""One private attribute: of the inputs that victims' devices sent, or of the examples behind each update."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from wireleak.common.measures.scores.priors import conditional_probabilities
from wireleak.common.measures.scores.registry import score_attribute
from wireleak.common.measures.statistics.bootstrap import resampled_by
from wireleak.common.references import window_name
from wireleak.common.targets import baselines
from wireleak.common.targets.registry import register
from wireleak.common.targets.sealed import Sealed
from wireleak.common.targets.target import (
    OWN,
    PERMUTED,
    Array,
    Baseline,
    Case,
    Examples,
    Guesses,
    Ints,
    Scored,
    Target,
    score_each,
)

CONDITIONAL = "conditional-majority"
# A long training is scored in so many windows of rounds, too; a shorter one would have few updates in each.
_WINDOWS, _LONG = 8, 80


@dataclass(frozen=True)
class Values:
    """The true values.

    Parameters
    ----------
    values : int64 (n,)
    task : int64 (n,) or None
        Task labels of the victims' inputs.
    senders : int64 (n,) or None
        Who sent each update, in federated training.
    rounds : int64 (n,) or None
        The round of each.
    """

    values: Ints
    task: Ints | None
    senders: Ints | None
    rounds: Ints | None = None


@register
class PrivateAttribute(Target[Values]):
    """A private attribute, by its own name in the data set."""

    name = "attribute"
    guessed = "attributes"

    @property
    def attribute(self) -> str | None:
        """The attribute's name."""
        return self.shown

    def prior(self, own: Examples) -> Array:
        """Return the frequencies of the values."""
        return baselines.frequencies(own.attribute, own.classes)[None]

    def baselines(self, case: Case) -> Iterator[Baseline]:
        """Yield the majority, the majority given the service's answer, and the attack on permuted values."""
        yield "majority", case.prior
        answers = case.predictions
        if answers is not None:
            own = case.own.without_copies()
            yield CONDITIONAL, lambda: case.filled(baselines.majority_per_prediction(own, answers))
        if case.guess is not None:
            yield PERMUTED, case.permuted

    def ground_truth(self, sealed: Sealed) -> Values:
        """Read each victim's value; of an update whether any example has a streamed property, else the commonest."""
        array = f"attribute:{self.shown}"
        if not sealed.federated:
            return Values(sealed.victims(array), sealed.victims("y"), None)
        any_counts = sealed.streamed == self.shown
        values = [
            int((held == 1).any()) if any_counts else int(np.bincount(held).argmax()) for held in sealed.behind(array)
        ]
        senders, rounds = np.array(sealed.units(), np.int64).reshape(-1, 2).T
        return Values(np.array(values, np.int64), None, senders, rounds)

    def part(self, truth: Values, rows: Ints) -> Values:
        """Return some victims' values."""
        return replace(truth, values=truth.values[rows], task=None if truth.task is None else truth.task[rows])

    def score(self, guesses: Guesses, truth: Values, seed: int) -> list[Scored]:
        """Score probabilities; of updates also in windows of rounds, or averaged over all rounds of a client.

        The latter where its rounds have one value. They are then one sample of the value, and are resampled together.
        """
        values, senders = truth.values, truth.senders
        if truth.task is not None:
            classes = guesses[OWN].shape[1]
            guesses = dict(guesses) | {CONDITIONAL: conditional_probabilities(values, truth.task, classes=classes)}
        clients = np.unique(() if senders is None else senders)
        alike = all(len(np.unique(values[senders == client])) == 1 for client in clients)
        if senders is None or not alike or len(clients) < 2:
            rows = score_each(self.shown, guesses, values, seed, score_attribute)
            return [*rows, *self._by_rounds(guesses[OWN], truth, seed)]
        # Another seed's clients are others.
        with resampled_by(seed * len(clients) + senders):
            rows = score_each(self.shown, guesses, values, seed, score_attribute)
        # A value that all of a client's rounds share belongs to the client, so its scores are averaged over rounds.
        first = [int(np.flatnonzero(senders == client)[0]) for client in clients]
        means = {
            name: np.stack([guess[..., senders == client, :].mean(-2) for client in clients], axis=-2)
            for name, guess in guesses.items()
        }
        rows += score_each(f"{self.shown}-averaged", means, values[first], seed, score_attribute)
        return rows

    def _by_rounds(self, guess: Array, truth: Values, seed: int) -> Iterator[Scored]:
        """Return the AUC of the attack's guess in each window of rounds in which the attribute varies."""
        if truth.rounds is None or len(rounds := np.unique(truth.rounds)) < _LONG:
            return
        for window in np.array_split(rounds, _WINDOWS):
            rows = np.isin(truth.rounds, window)
            if len(np.unique(truth.values[rows])) > 1:
                rng = np.random.default_rng(seed)
                (auc,) = score_attribute(guess[rows], truth.values[rows], rng, only=["auc"])
                yield Scored(self.shown, window_name(int(window[0]), int(window[-1])), auc)
