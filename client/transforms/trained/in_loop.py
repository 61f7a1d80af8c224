"""Adversaries in the loop: networks on the device whose gradients train the encoder against them."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from client.transforms.registry import Batch, Scene, Transform
from wireleak.common.config import ConfigError

# The momentum of DyNet's MomentumSGD, which Elazar and Goldberg use.
MOMENTUM = 0.9
Heads = list[nn.Sequential]


class OptimiserOptions(BaseModel):
    """Training settings of the adversary. Its optimiser state restarts in each round, as the encoder's does."""

    model_config = ConfigDict(extra="forbid")
    optimiser: Literal["adam", "sgd"] = Field(
        "adam", description="Optimiser of the adversary; sgd has a momentum of 0.9."
    )
    learning_rate: float | None = Field(
        None, gt=0, le=10, allow_inf_nan=False, description="Learning rate of the adversary; by default the encoder's."
    )
    steps: int = Field(1, ge=1, le=100, description="Steps of the adversary on each batch; the papers take 1.")

    def optimise(self, module: nn.Module, encoder_rate: float) -> torch.optim.Optimizer:
        """Return the optimiser of an adversary; its default learning rate is the encoder's, `encoder_rate`."""
        rate = encoder_rate if self.learning_rate is None else self.learning_rate
        if self.optimiser == "adam":
            return torch.optim.Adam(module.parameters(), lr=rate)
        return torch.optim.SGD(module.parameters(), lr=rate, momentum=MOMENTUM)


class AdversaryOptions(OptimiserOptions):
    """Settings of the adversaries that the encoder is trained against."""

    attribute: str = Field(min_length=1, description="Private attribute that activations must not reveal.")
    hidden: int = Field(300, ge=1, le=16_384, description="Units of an adversary's hidden layer.")
    adversaries: int = Field(1, ge=1, le=16, description="Number of adversaries; their losses are added.")


class Adversarial(Transform):
    """A transform that trains adversaries to infer a private attribute from activations.

    `told` returns the accuracy of the best adversary over the round, on each batch before training on it. This figure
    can mislead: an encoder that escapes these adversaries may not escape others. In Elazar and Goldberg (EMNLP 2018) it
    was at chance while newly trained attackers still succeeded.
    """

    settings: AdversaryOptions

    def __init__(self, settings: Any, seed: int) -> None:
        super().__init__(settings, seed)
        self._right, self._seen = torch.zeros(settings.adversaries), 0

    def private(self) -> tuple[str, ...]:
        """Return the attribute that the adversaries learn to infer."""
        return (self.settings.attribute,)

    def prepare(self, scene: Scene) -> nn.Module:
        """Return the adversaries, each with its own initial weights, and make their optimiser."""
        attribute = self.settings.attribute
        values, features = scene.values[attribute], math.prod(scene.activation_shape)
        if values < 2:
            raise ConfigError(
                f"transforms.{self.name}.attribute: {attribute} has one value: nothing to hide; name another"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.heads: Heads = [
                adversary(features, values, self.settings.hidden) for _ in range(self.settings.adversaries)
            ]
        module = nn.ModuleList(self.heads)
        self.optimiser = self.settings.optimise(module, scene.learning_rate)
        return module

    def learn(self, activation: Tensor, batch: Batch) -> Tensor:
        """Train the adversaries; return their last loss, the sum of their mean cross-entropies in nats.

        If `activation` depends on a leaf tensor, that leaf keeps its gradient of this loss.
        """
        truth, detached = batch.private[self.settings.attribute], activation.detach()
        for left in reversed(range(self.settings.steps)):
            answers = [head(detached if left else activation) for head in self.heads]
            if left == self.settings.steps - 1:
                self._right += torch.stack([(answer.argmax(1) == truth).sum() for answer in answers])
                self._seen += len(truth)
            loss = torch.stack([cross_entropy(answer, truth) for answer in answers]).sum()
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimiser.step()
        return loss.detach()

    def told(self) -> dict[str, float]:
        """Return the accuracy of the best adversary in the loop."""
        return {"adversary-accuracy": float(self._right.max()) / self._seen} if self._seen else {}


def adversary(features: int, values: int, hidden: int) -> nn.Sequential:
    """Return Elazar and Goldberg's adversary: one hidden tanh layer from flattened activations to attribute values.

    It has no dropout, which would draw from the same generator as the encoder's own dropout.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, values))


def steer(activation: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
    """Return the scalar `value`, whose gradient at the activation is `gradient`.

    Parameters
    ----------
    activation, gradient : (n, *activation_shape)
    value : scalar
    """
    return value.detach() + ((activation - activation.detach()) * gradient).sum()
