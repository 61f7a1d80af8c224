"""Active property inference: train on a joint loss that teaches the shared model to separate the property."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn.functional import cross_entropy

from adversary.participant.config import ParticipantConfig
from adversary.participant.registry import Floats, Labels, Strategy, read_surrogate, register
from wireleak.common.config import ConfigError
from wireleak.common.models.features import collected_features, last_linear
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training, task_loss, train_whole
from wireleak.common.models.weights import load_weights, save_weights


class MultiTaskOptions(BaseModel):
    """Settings of `MultiTask`."""

    model_config = ConfigDict(extra="forbid")
    attribute: str = Field(description="Name of the property, an attribute of the surrogate examples.")
    alpha: float = Field(0.7, ge=0, le=1, description="Weight of the property's loss; 0 trains honestly.")
    share: float = Field(
        1.0, gt=0, le=1, description="Share of the surrogate examples for this loss; the first ones are taken."
    )
    boost: float = Field(
        1.0, ge=1, description="Factor of the update that is sent, so that it outweighs the others' in their mean."
    )


@register
class MultiTask(Strategy):
    """Send the update of ``(1 - alpha) * task + alpha * property``.

    A head for the property is added to the shared extractor (all but the network's last linear layer). The task's loss
    uses the participant's own shard. The property's loss uses as many surrogate examples, drawn for each step. The
    head's weights are never sent; they are kept in `out` until the next round. With `boost` the update is multiplied,
    as in model replacement (Bagdasaryan et al. 2020).

    References
    ----------
    Melis, Song, De Cristofaro, Shmatikov, "Exploiting Unintended Feature Leakage in Collaborative Learning", S&P 2019,
    section V-C. The paper prints alpha on the task's loss. Its figure 7 and the authors' code agree only with alpha on
    the property's loss, as in this class.
    """

    name = "multi-task"
    options = MultiTaskOptions

    def __init__(self, settings: MultiTaskOptions, config: ParticipantConfig) -> None:
        super().__init__(settings, config)
        inputs, values = read_surrogate(config, settings.attribute)
        # The attack imitates updates on the others: the shared model learns these by heart, and no victim's.
        used = slice(max(1, round(settings.share * len(inputs))))
        self._inputs, self._values = inputs[used], values[used]
        self._rows = [np.flatnonzero(self._values == value) for value in np.unique(self._values)]

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train on both losses at once; the head continues from the round before."""
        alpha, seed = self.settings.alpha, (*how.seed, 1)
        if not alpha:
            # With alpha 0 a second pass through the network would still change its running statistics.
            return train_whole(network.blocks, inputs, labels, how)
        start = [value.detach().clone() for value in network.blocks.parameters()]
        both = nn.ModuleDict({"network": network.blocks, "head": self._head(network)})
        draw = np.random.default_rng(seed)

        def loss(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            rows = self._balanced(draw, len(x))
            with collected_features(_last(network.blocks)) as features:
                network.blocks(torch.from_numpy(self._inputs[rows]))
            property_scores = both["head"](features[0])
            task = task_loss(network.blocks, x, y)
            property_loss = cross_entropy(property_scores, torch.from_numpy(self._values[rows]))
            joint: torch.Tensor = (1 - alpha) * task + alpha * property_loss
            return joint

        reported = train_whole(both, inputs, labels, how, loss)
        save_weights(both["head"], self._kept)
        with torch.no_grad():
            for value, before in zip(network.blocks.parameters(), start, strict=True):
                # As `before + boost * (value - before)`, but exact for a boost of 1.
                value.add_(value - before, alpha=self.settings.boost - 1)
        return reported

    def _balanced(self, draw: np.random.Generator, count: int) -> Labels:
        """Draw surrogate examples with each value equally often: a rare property would hardly be learnt otherwise."""
        parts = np.array_split(np.arange(count), len(self._rows))
        each = [
            draw.choice(rows, len(part), replace=len(part) > len(rows))
            for rows, part in zip(self._rows, parts, strict=True)
        ]
        return np.concatenate(each)

    def _head(self, network: Network) -> nn.Linear:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            head = nn.Linear(_last(network.blocks).in_features, int(self._values.max()) + 1)
        if self._kept.is_file():
            load_weights(head, self._kept)
        return head

    @property
    def _kept(self) -> Path:
        return self.config.out / "multi-task-head.safetensors"


def _last(blocks: nn.Sequential) -> nn.Linear:
    last = last_linear(blocks)
    if last is None:
        raise ConfigError("strategy.name: multi-task needs a network with a linear layer; choose another network")
    return last
