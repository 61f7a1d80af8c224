"""Active membership inference: raise the shared model's loss on records, so that their owners lower it again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn.functional import cross_entropy

from adversary.participant.config import ParticipantConfig
from adversary.participant.registry import Floats, Labels, Strategy, read_arrays, register
from wireleak.common.config import ConfigError
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training, task_loss, train_whole

# The largest probability of a label that counts: float32 rounds what a network is sure of to 1.
_SURE = 1 - 1e-6


class GradientAscentOptions(BaseModel):
    """Settings of `GradientAscent`."""

    model_config = ConfigDict(extra="forbid")
    strength: float = Field(1.0, ge=0, description="Weight of the ascent, added to the task's loss; 0 trains honestly.")


@register
class GradientAscent(Strategy):
    """Send the update of ``task + strength * mean(log(1 / (1 - p)))``, p the probability of a candidate's own label.

    The attacker guesses which candidates are members; its files do not say. Each step takes as many candidates as own
    examples, all in turn. A step down ``log(1 / (1 - p))`` is a step up the loss ``-log(p)``, times the odds
    ``p / (1 - p)``. So a record is pushed hardest while the model is sure of it, and hardly once the model has lost it.
    A participant that trains on a record lowers its loss again.

    Nasr et al. add the plain gradient of the loss to the weights. That has no bound: a step large enough to matter left
    our networks at chance. They attack by the loss and the gradients in many rounds, as `member-rebound` does.

    References
    ----------
    Nasr, Shokri, Houmansadr, "Comprehensive Privacy Analysis of Deep Learning: Passive and Active White-box Inference
    Attacks against Centralized and Federated Learning", S&P 2019, the active attack of a local participant.
    """

    name = "gradient-ascent"
    options = GradientAscentOptions

    def __init__(self, settings: GradientAscentOptions, config: ParticipantConfig) -> None:
        super().__init__(settings, config)
        inputs, labels = read_arrays(config.records, "records", ("x", "y"))
        if labels.dtype.kind not in "iu" or inputs.shape[1:] != config.model.input_shape:
            wanted = f"x (n, {', '.join(map(str, config.model.input_shape))}) and whole numbers y (n,)"
            raise ConfigError(f"records: {config.records} holds x {inputs.shape} and y {labels.dtype}; give {wanted}")
        self._inputs: Floats = inputs.astype(np.float32)
        self._labels: Labels = labels.astype(np.int64)

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train on the task and against the candidates at once."""
        strength = self.settings.strength
        if not strength:
            # With strength 0 a second pass through the network would still change its running statistics.
            return train_whole(network.blocks, inputs, labels, how)
        turns = self._turns(np.random.default_rng((*how.seed, 1)))

        def loss(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            rows = [next(turns) for _ in range(len(x))]
            own = cross_entropy(
                module(torch.from_numpy(self._inputs[rows])), torch.from_numpy(self._labels[rows]), reduction="none"
            )
            ascent = -torch.log1p(-_SURE * torch.exp(-own)).mean()
            joint: torch.Tensor = task_loss(module, x, y) + strength * ascent
            return joint

        return train_whole(network.blocks, inputs, labels, how, loss)

    def _turns(self, draw: np.random.Generator) -> Iterator[int]:
        """Yield the candidates' rows without end, each once before any comes again."""
        while True:
            yield from draw.permutation(len(self._inputs)).tolist()
