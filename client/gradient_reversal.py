"""Gradient reversal: the encoder unlearns what an adversary head reads from its activations.

L = CE(task(h), y) + CE(adversary(reverse(h)), z): the adversary learns z with its own gradient as it is, while the
encoder receives that gradient times -strength.

References
----------
Ganin, Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015.
Elazar, Goldberg, "Adversarial Removal of Demographic Attributes from Text Data", EMNLP 2018: the adversary's own
accuracy in training is no evidence; train a fresh attacker.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn


class GradientReversal(nn.Module):
    """Identity forward; the gradient times -strength backward.

    Parameters
    ----------
    strength : float
        The paper's lambda, at least 0; 0 lets nothing of the adversary reach the encoder.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        if not (math.isfinite(strength) and strength >= 0):
            raise ValueError(f"strength: {strength} must be a finite number of at least 0")
        self.strength = strength

    def forward(self, activation: Tensor) -> Tensor:
        """Return `activation` as it is."""
        return cast(Tensor, _Reverse.apply(activation, self.strength))  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Name the strength in the module's text."""
        return f"strength={self.strength}"


def adversary_head(features: int, classes: int, strength: float, hidden: int = 300) -> nn.Sequential:
    """Return the paper's adversary behind a gradient reversal: one hidden tanh layer, from activation to attribute.

    Parameters
    ----------
    features : int
        Values of one flattened activation.
    classes : int
        Values of the private attribute.
    strength : float
        As in `GradientReversal`.
    hidden : int
        Units of the hidden layer.
    """
    layers = (nn.Flatten(), nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, classes))
    return nn.Sequential(GradientReversal(strength), *layers)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return activation.view_as(activation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None
