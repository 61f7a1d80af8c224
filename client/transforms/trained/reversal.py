"""Gradient reversal: the encoder unlearns what an adversary reads from its activations.

L = CE(task(h), y) + sum_i CE(adversary_i(reverse(h)), z): each adversary learns z with its own gradient as it is, while
the encoder receives that gradient times -strength.
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
        1.0, ge=0, le=100, allow_inf_nan=False, description="The papers' lambda; theirs are 0.5 to 5."
    )
    schedule: Literal["constant", "ganin"] = Field(
        "constant", description="ganin: strength (2 / (1 + exp(-10 p)) - 1), p how far training is."
    )


@register
class Reversal(Adversarial):
    """Train the encoder against adversaries behind a gradient reversal layer, all in one backward pass.

    A strength of 0 trains the adversary and leaves the encoder as it would be without. Nothing is guaranteed: the
    encoder learns to escape these adversaries, and fresh ones often find what these lost, or more than they would have
    without. An adversary that lags is led in circles: more `steps` a batch keep it near its best answer.

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
        """Train the adversaries on the batch and return -strength times their loss, with their gradient."""
        strength = scheduled(self.settings.strength, self.settings.schedule, batch.progress)
        seen = activation.detach().requires_grad_()
        loss = self.learn(GradientReversal(strength)(seen), batch)
        return steer(activation, cast(Tensor, seen.grad), -strength * loss)


def scheduled(strength: float, schedule: str, progress: float) -> float:
    """Return lambda when training is at `progress`, 0 to 1: as it is, or rising from 0 as Ganin and Lempitsky's."""
    if schedule == "constant":
        return strength
    return strength * (2 / (1 + math.exp(-GAMMA * progress)) - 1)


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


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return activation.view_as(activation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None
