"""Gradient reversal: the encoder learns to remove the attribute that an adversary infers from its activations.

L = CE(task(h), y) + sum_i CE(adversary_i(reverse(h)), z). Each adversary learns z with its own gradient, and the
encoder receives that gradient times -strength.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from client.transforms.registry import Batch, Changes, register
from client.transforms.trained.in_loop import Adversarial, AdversaryOptions, steer

# Ganin and Lempitsky's gamma, in all of their experiments.
GAMMA = 10.0


class ReversalOptions(AdversaryOptions):
    """Settings of `Reversal`."""

    strength: float = Field(
        1.0, ge=0, le=100, allow_inf_nan=False, description="The papers' lambda; their values are 0.5 to 5."
    )
    schedule: Literal["constant", "ganin"] = Field(
        "constant", description="ganin: strength (2 / (1 + exp(-10 p)) - 1), with p the progress of training."
    )


@register
class Reversal(Adversarial):
    """Train the encoder against adversaries behind a gradient reversal layer, all in one backward pass.

    With a strength of 0 the adversary trains and the encoder is unaffected. Nothing is guaranteed: the encoder learns
    to escape these adversaries. Newly trained ones often recover the attribute, or more than without the defence. An
    adversary that learns too slowly only chases the encoder; more `steps` per batch keep it near its optimum.

    References
    ----------
    Ganin, Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015 (layer and schedule).
    Elazar, Goldberg, "Adversarial Removal of Demographic Attributes from Text Data", EMNLP 2018 (adversary of 300 tanh
    units, strengths 0.5 to 5, ensembles of up to 5).
    """

    name = "gradient-reversal"
    options = ReversalOptions
    changes = Changes(
        "trains its encoder against an adversary behind a gradient reversal, which must know the attribute"
    )
    settings: ReversalOptions

    def loss(self, activation: Tensor, batch: Batch) -> Tensor:
        """Train the adversaries on the batch; return -strength times their loss, with their gradient."""
        strength = scheduled(self.settings.strength, self.settings.schedule, batch.progress)
        seen = activation.detach().requires_grad_()
        loss = self.learn(GradientReversal(strength)(seen), batch)
        return steer(activation, cast(Tensor, seen.grad), -strength * loss)


def scheduled(strength: float, schedule: str, progress: float) -> float:
    """Return lambda at `progress` of training, 0 to 1: constant, or rising from 0 as in Ganin and Lempitsky."""
    if schedule == "constant":
        return strength
    return strength * (2 / (1 + math.exp(-GAMMA * progress)) - 1)


class GradientReversal(nn.Module):
    """A layer that is the identity forward and multiplies the gradient by -strength backward.

    Parameters
    ----------
    strength : float
        The paper's lambda, at least 0; with 0 the adversary does not affect the encoder.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        if not (math.isfinite(strength) and strength >= 0):
            raise ValueError(f"strength: {strength} must be a finite number of at least 0")
        self.strength = strength

    def forward(self, activation: Tensor) -> Tensor:
        """Return `activation` unchanged."""
        return cast(Tensor, _Reverse.apply(activation, self.strength))  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Return the strength for the module's printed form."""
        return f"strength={self.strength}"


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return activation.view_as(activation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None
