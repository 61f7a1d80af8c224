"""Dropout: numbers of an activation zeroed at random, in training and at inference."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field

from client.transforms.randomised.random_transform import RandomTransform
from client.transforms.registry import Changes, register


class DropoutOptions(BaseModel):
    """Settings of `Dropout`."""

    model_config = ConfigDict(extra="forbid")
    rate: float = Field(gt=0, lt=1, allow_inf_nan=False, description="Chance of each number to be zeroed.")
    scaled: bool = Field(True, description="Divide what is left by 1 - rate, so that its mean stays.")


@register
class Dropout(RandomTransform):
    """Zero each number with a chance of `rate`, drawn anew for every message, also when the network serves.

    It promises nothing, whatever attacks it stops.

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
        """Return the masked activation, float32 of the same shape; gradients pass where nothing is masked."""
        kept = torch.rand(activation.shape, generator=self.generator(activation)) >= self.settings.rate
        sent = torch.where(kept, activation, 0.0)
        return sent / (1 - self.settings.rate) if self.settings.scaled else sent

    def refusal(self) -> str:
        """Why a random mask guarantees nothing."""
        return (
            "no epsilon of its own: what is not masked is sent as it is, so a number seen rules out whatever does not "
            "give it, and several messages about one input show what each mask hid"
        )
