"""Attributes: a probe from activation to one private attribute."""

from __future__ import annotations

from typing import Self

import numpy as np

from adversary.attacks.activations.probes import Probe, ProbeOptions
from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.attribute import PrivateAttribute


@register
class Attributes(ActivationAttack):
    """Infer a private attribute of a victim's input from the activation that its device sent.

    The attacker's own device sent inputs whose attribute it knows, and the probe learns from the activations captured
    of them. Transformed copies are left out: slant, size or thickness do not survive a transformation.

    References
    ----------
    Song and Shmatikov, "Overlearning Reveals Sensitive Attributes", ICLR 2020; Coavoux, Narayan, Cohen,
    "Privacy-preserving Neural Representations of Text", EMNLP 2018.
    """

    name = "attributes"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER),
        sees=("activation",),
        knows=(Knows.SURROGATE, Knows.QUERIES),
    )
    target = PrivateAttribute
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
        """Return probabilities (n, classes) from activations (n, *activation_shape)."""
        return self._probe.guess(activations)
