"""Bottleneck: add noise to every message, and train the encoder to send little information through it."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from client.transforms.randomised.random_transform import RandomTransform
from client.transforms.registry import Batch, Changes, register


class BottleneckOptions(BaseModel):
    """Settings of `Bottleneck`."""

    model_config = ConfigDict(extra="forbid")
    beta: float = Field(
        0.001, ge=0, le=10, allow_inf_nan=False, description="Weight of one nat of KL, in nats of the task's loss."
    )
    sigma: float = Field(
        1.0, gt=0, le=100, allow_inf_nan=False, description="Standard deviation of the noise on every number sent."
    )


@register
class Bottleneck(RandomTransform):
    """Send N(mu, sigma^2 I), with mu the encoder's output, and add beta KL(N(mu, sigma^2 I) || N(0, I)) to its loss.

    This is Alemi et al.'s variational bottleneck with a fixed sigma. The mean KL, reported as "kl-nats", is an upper
    bound on the information, in nats, that one message carries about its input *on average*, for any reader. It holds
    for the inputs and encoders of that round's training, on which it is measured. It is not differential privacy. A
    rare input may cost far more than the mean, and q messages about one input carry up to q times as much.

    References
    ----------
    Alemi, Fischer, Dillon, Murphy, "Deep Variational Information Bottleneck", ICLR 2017.
    """

    name = "bottleneck"
    options = BottleneckOptions
    changes = Changes("trains its encoder to send few nats and adds Gaussian noise", wire="noised activations")
    settings: BottleneckOptions

    def __init__(self, settings: Any, seed: int) -> None:
        super().__init__(settings, seed)
        self._total, self._seen = 0.0, 0

    def __call__(self, activation: Tensor, inputs: Tensor) -> Tensor:
        """Return a draw around the activation, of the same shape; its gradient is the activation's."""
        noise = torch.randn(activation.shape, generator=self.generator(activation), dtype=activation.dtype)
        return activation + self.settings.sigma * noise

    def loss(self, activation: Tensor, batch: Batch) -> Tensor:
        """Return beta times the batch's mean KL."""
        divergence = kl_nats(activation, self.settings.sigma)
        self._total += float(divergence.detach().double().sum())
        self._seen += len(divergence)
        return self.settings.beta * divergence.mean()

    def told(self) -> dict[str, float]:
        """Return the mean KL over the round's examples, an upper bound in nats per message on average."""
        return {"kl-nats": self._total / self._seen} if self._seen else {}

    def refusal(self) -> str:
        """Return why a bound in nats is not an epsilon."""
        return (
            "no epsilon: the KL bounds what messages carry on average over the inputs of training; "
            "without a clip, any one input may stand out from the noise"
        )


def kl_nats(mean: Tensor, sigma: float) -> Tensor:
    """Return KL(N(mean, sigma^2 I) || N(0, I)) of each row of (n, …), in nats: (n,)."""
    flat = mean.flatten(1)
    return 0.5 * (flat.square().sum(1) + flat.shape[1] * (sigma**2 - 1 - 2 * math.log(sigma)))
