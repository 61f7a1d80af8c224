"""Adversaries in the loop: what an encoder is trained against, on the device, and what it hands back as a gradient."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from client.transforms.registry import Batch, Scene, Transform
from wireleak.common.config import ConfigError

# That of DyNet's MomentumSGD, with which Elazar and Goldberg train.
MOMENTUM = 0.9
Heads = list[nn.Sequential]


class OptimiserOptions(BaseModel):
    """How the adversary is trained; its moments start anew with each round, as the encoder's do."""

    model_config = ConfigDict(extra="forbid")
    optimiser: Literal["adam", "sgd"] = Field("adam", description="Of the adversary; sgd has a momentum of 0.9.")
    learning_rate: float | None = Field(
        None, gt=0, le=10, allow_inf_nan=False, description="Of the adversary; by default the encoder's."
    )
    steps: int = Field(1, ge=1, le=100, description="Steps of the adversary on each batch; the papers' is 1.")

    def optimise(self, module: nn.Module, encoders: float) -> torch.optim.Optimizer:
        """Make the optimiser of an adversary beside an encoder with the learning rate `encoders`."""
        rate = encoders if self.learning_rate is None else self.learning_rate
        if self.optimiser == "adam":
            return torch.optim.Adam(module.parameters(), lr=rate)
        return torch.optim.SGD(module.parameters(), lr=rate, momentum=MOMENTUM)


class AdversaryOptions(OptimiserOptions):
    """Whom the encoder is trained against."""

    attribute: str = Field(min_length=1, description="Private attribute that activations shall not tell.")
    hidden: int = Field(300, ge=1, le=16_384, description="Units of an adversary's hidden layer.")
    adversaries: int = Field(1, ge=1, le=16, description="How many are trained side by side; their losses add up.")


class Adversarial(Transform):
    """A transform that trains adversaries to read a private attribute off its activations.

    `told` has the accuracy of the best of them over the round, each batch before it was trained on. It misleads: an
    encoder that escapes these adversaries need not escape others (Elazar and Goldberg, EMNLP 2018, for whom it was
    at chance while fresh attackers read on).
    """

    settings: AdversaryOptions

    def __init__(self, settings: Any, seed: int) -> None:
        super().__init__(settings, seed)
        self._right, self._seen = torch.zeros(settings.adversaries), 0

    def private(self) -> tuple[str, ...]:
        """Name the attribute that the adversaries learn to read."""
        return (self.settings.attribute,)

    def prepare(self, scene: Scene) -> nn.Module:
        """Make the adversaries, each with first weights of its own, and their optimiser."""
        attribute = self.settings.attribute
        values, features = scene.values[attribute], math.prod(scene.activation_shape)
        if values < 2:
            raise ConfigError(f"transforms.{self.name}.attribute: {attribute} has one value; there is nothing to hide")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.heads: Heads = [
                adversary(features, values, self.settings.hidden) for _ in range(self.settings.adversaries)
            ]
        module = nn.ModuleList(self.heads)
        self.optimiser = self.settings.optimise(module, scene.learning_rate)
        return module

    def learn(self, activation: Tensor, batch: Batch) -> Tensor:
        """Step the adversaries down their own loss; return the last one, the sum of their mean cross-entropies in nats.

        Whatever leaf `activation` hangs on is left with its gradient of that loss.
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
        """Tell the accuracy of the best adversary of the loop."""
        return {"adversary-accuracy": float(self._right.max()) / self._seen} if self._seen else {}


def adversary(features: int, values: int, hidden: int) -> nn.Sequential:
    """Elazar and Goldberg's: one hidden tanh layer from flattened activations to an attribute's values.

    Without dropout: it would draw from the generator that the encoder's own dropout draws from.
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
