"""Attributes: a probe from activation to one private attribute."""

from __future__ import annotations

from adversary.attacks.activations.probe_attack import ProbeAttack
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.attribute import PrivateAttribute


@register
class Attributes(ProbeAttack):
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
