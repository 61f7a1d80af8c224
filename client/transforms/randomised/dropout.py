"""Dropout: zero numbers of an activation at random, in training and at inference."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field

from client.transforms.randomised.random_transform import RandomTransform
from client.transforms.registry import Changes, register


class DropoutOptions(BaseModel):
    """Settings of `Dropout`."""

    model_config = ConfigDict(extra="forbid")
    rate: float = Field(gt=0, lt=1, allow_inf_nan=False, description="Probability that a number is zeroed.")
    scaled: bool = Field(True, description="Divide the other numbers by 1 - rate, so that the mean stays.")


@register
class Dropout(RandomTransform):
    """Zero each number with probability `rate`, with new draws for every message, also at inference.

    It guarantees nothing, even if it stops some attacks.

    References
    ----------
    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014. He, Zhang, Lee,
    "Attacking and Protecting Data Privacy in Edge-Cloud Collaborative Inference Systems", IEEE IoT Journal 2021 (at
    inference, against inversion).
    """

    name = "dropout"
    options = DropoutOptions
    changes = Changes("zeroes numbers of each activation at random", wire="activations with random zeros")

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the masked activation, float32 of the same shape; gradients pass only through unmasked numbers."""
        kept = torch.rand(activation.shape, generator=self.generator(activation)) >= self.settings.rate
        sent = torch.where(kept, activation, 0.0)
        return sent / (1 - self.settings.rate) if self.settings.scaled else sent

    def refusal(self) -> str:
        """Return why a random mask guarantees nothing."""
        return (
            "no epsilon of its own: unmasked numbers are sent unchanged, so each one rules out all inputs that do not "
            "produce it, and several messages about one input reveal the numbers that each mask hid"
        )
