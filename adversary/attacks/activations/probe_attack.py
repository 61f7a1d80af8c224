"""The base of attacks that fit a probe."""

from __future__ import annotations

from typing import Self

import numpy as np

from adversary.attacks.activations.probes import Probe, ProbeOptions
from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge


class ProbeAttack(ActivationAttack):
    """Base of attacks that fit a probe to what they read of each inference."""

    options = ProbeOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Train the probe on the attacker's pairs."""
        self._probe = Probe(self.settings, self.seed)
        self._probe.fit(knowledge)
        self.report |= self._probe.report

    @property
    def permutations(self) -> int:
        """As many as the probe's kind affords."""
        return self._probe.permutations

    def permuted(self, knowledge: Knowledge, rng: np.random.Generator) -> Self:
        """Return this attack with the chosen kind of probe, fitted to permuted values."""
        attack = type(self)(self.settings, self.seed)
        attack._probe = self._probe.permuted(rng)
        return attack

    def guess(self, activations: Array) -> Array:
        """Return probabilities (n, classes) from what was read, (n, ...)."""
        return self._probe.guess(activations)
