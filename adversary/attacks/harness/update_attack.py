"""The bases of attacks on federated training: on each update, or on the models as a whole."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adversary.attacks.harness.attack import Attack, Evidence
from adversary.attacks.harness.config import AttackConfig
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.training import Recipe, Seen, Update, training
from wireleak.common.reads import Read
from wireleak.common.traffic import Traffic


class UpdateAttack(Attack):
    """Base of attacks on updates: guess something about the examples behind each update."""

    traffic = Traffic.FEDERATED_TRAINING

    @abstractmethod
    def guess(self, updates: Sequence[Update]) -> Array:
        """Guess for updates, all those of `Knowledge.training` or some of them.

        Returns
        -------
        numpy.ndarray
            Float32: the inputs behind the updates (all of their examples, *input_shape), update after update, or
            probabilities (updates, classes).
        """

    @classmethod
    def observe(cls, settings: Any, config: AttackConfig, known: Knowledge) -> SeenUpdates:
        """Read the captures of a federated training."""
        seen, known = _training(cls, config, known)
        assert config.training is not None
        units = {unit: number for number, unit in enumerate(config.training.units)}
        updates = tuple(one for one in seen.updates if (one.sender, one.round) in units)
        each = config.victims // len(units)
        first = [units[one.sender, one.round] * each for one in updates]
        places = np.concatenate([np.zeros(0, int), *(np.arange(at, at + each) for at in first)])
        return SeenUpdates(
            known=known,
            **_account(seen, config),
            places=places,
            guessed=len(places),
            groups=len(updates),
            unread=np.arange(0),
            updates=updates,
        )


class ModelAttack(Attack):
    """Base of attacks on the models of a federated training: guess records, pictures or numbers in them."""

    traffic = Traffic.FEDERATED_TRAINING

    @abstractmethod
    def guess(self, count: int) -> Array:
        """Guess for the `count` records, pictures or numbers under attack.

        Returns
        -------
        numpy.ndarray
            Float32 (count, ...).
        """

    @classmethod
    def observe(cls, settings: Any, config: AttackConfig, known: Knowledge) -> SeenModels:
        """Read the captures of a federated training."""
        seen, known = _training(cls, config, known)
        count = config.victims
        return SeenModels(
            known=known,
            **_account(seen, config),
            places=np.arange(count),
            guessed=count,
            groups=count,
            unread=np.arange(0),
        )


@dataclass(frozen=True, kw_only=True)
class SeenUpdates(Evidence[UpdateAttack]):
    """The updates under attack, in the order of `Knowledge.training`."""

    updates: tuple[Update, ...]

    @property
    def unseen(self) -> str | None:
        """Why nothing can be guessed; None when it can."""
        return None if self.updates else _prior(self.known)

    def ask(self, attack: UpdateAttack) -> Array:
        """Guess for the updates."""
        return attack.guess(self.updates)


@dataclass(frozen=True, kw_only=True)
class SeenModels(Evidence[ModelAttack]):
    """The models of a federated training, as `Knowledge.training` has them."""

    @property
    def unseen(self) -> str | None:
        """Why nothing can be guessed; None when it can."""
        return None if self.known.trained()[0].models else _prior(self.known)

    def ask(self, attack: ModelAttack) -> Array:
        """Guess for all records, pictures or numbers under attack."""
        return attack.guess(self.guessed)


def _training(kind: type[Attack], config: AttackConfig, known: Knowledge) -> tuple[Seen, Knowledge]:
    """Read a federated training, and add it to the attacker's knowledge."""
    settings = config.training
    if settings is None:
        raise ValueError(f"training: is missing, and {kind.name} reads updates; give the clients' training settings")
    recipe = Recipe(settings.plan, settings.participants, settings.examples, settings.own, settings.privacy)
    senders = {sender for sender, _ in settings.units}
    seen = training(config.captures.victims, recipe, senders, released=settings.released, rounds=settings.rounds)
    return seen, replace(known, training=seen, recipe=recipe)


def _account(seen: Seen, config: AttackConfig) -> dict[str, Any]:
    return {
        "messages": {"device": 0, "victims": seen.messages},
        "bytes": {"device": 0, "victims": seen.bytes},
        "reads": (_read(seen, config),),
        "notes": tuple(f"victims: {note}" for note in seen.notes),
    }


def _read(seen: Seen, config: AttackConfig) -> Read:
    """Count the updates under attack that were read; where only the last model is seen, the rounds behind it."""
    assert config.training is not None
    units = set(config.training.units)
    if not config.training.released:
        return Read("update", len(units.intersection(seen.units)), len(units))
    last = max((number for _, number in units), default=0)
    # The model after the last round is sent only for an evaluation.
    return Read("round", min(max(seen.models, default=0), last), last)


def _prior(known: Knowledge) -> str:
    return f"victims: {'; '.join(known.trained()[0].notes)}; the guess is the prior"
