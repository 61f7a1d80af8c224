"""The base of attacks on the activation gradients that clients receive in split training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adversary.attacks.harness.attack import Attack, Evidence, unread
from adversary.attacks.harness.config import AttackConfig
from adversary.attacks.harness.gradients import Gradients, gradients
from adversary.attacks.harness.knowledge import Array, Knowledge
from wireleak.common.reads import Read
from wireleak.common.traffic import Traffic


class GradientAttack(Attack):
    """Base of attacks on activation gradients: guess something about each training example."""

    traffic = Traffic.SPLIT_TRAINING

    @abstractmethod
    def guess(self, gradients: Gradients) -> Array:
        """Guess for training examples.

        Parameters
        ----------
        gradients : Gradients
            As `read` gives them, one row per example.

        Returns
        -------
        numpy.ndarray
            Float32: (n, *input_shape), or probabilities (n, classes).
        """

    def read(self, paths: Sequence[Path], count: int) -> Gradients:
        """Read the captures of clients that sent `count` examples, repeated examples counted each time."""
        return gradients(paths, count)

    @classmethod
    def observe(cls, settings: Any, config: AttackConfig, known: Knowledge) -> TrainingGradients:
        """Read the clients' captures."""
        seen = cls(settings, config.seed).read(config.captures.victims, config.victims)
        places = np.arange(len(seen)) if seen.places is None else seen.places
        return TrainingGradients(
            known=known,
            messages={"device": 0, "victims": seen.messages},
            bytes={"device": 0, "victims": seen.bytes},
            reads=(Read("activation gradient", len(seen), config.victims),),
            notes=tuple(f"victims: {note}" for note in seen.notes),
            places=places,
            guessed=len(places),
            groups=len(places),
            unread=unread(places, config.victims),
            gradients=seen,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingGradients(Evidence[GradientAttack]):
    """Activation gradients of training examples."""

    gradients: Gradients

    @property
    def unseen(self) -> str | None:
        """Reason why the attack cannot guess, or None if it can."""
        if len(self.gradients):
            return None
        return f"victims: {'; '.join(self.gradients.notes)}; the guess is the prior"

    def ask(self, attack: GradientAttack) -> Array:
        """Guess for the training examples."""
        return attack.guess(self.gradients)
