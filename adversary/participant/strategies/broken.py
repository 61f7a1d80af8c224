"""A participant that sends what no server can use: to see what it does to a run."""

from __future__ import annotations

import torch

from adversary.participant.registry import Floats, Labels, Strategy, register
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training, train_whole


@register
class Broken(Strategy):
    """Train as an honest client does, and send NaN for the first layer."""

    name = "broken"

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train, then spoil."""
        loss = train_whole(network.blocks, inputs, labels, how)
        with torch.no_grad():
            next(network.blocks.parameters()).fill_(torch.nan)
        return loss
