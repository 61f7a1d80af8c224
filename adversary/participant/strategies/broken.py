"""A participant that sends NaN weights, to test how a run handles them."""

from __future__ import annotations

import torch

from adversary.participant.registry import Floats, Labels, Strategy, register
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training, train_whole


@register
class Broken(Strategy):
    """Train as an honest client does, then set the first layer to NaN."""

    name = "broken"

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train, then overwrite the first parameter array with NaN."""
        loss = train_whole(network.blocks, inputs, labels, how)
        with torch.no_grad():
            next(network.blocks.parameters()).fill_(torch.nan)
        return loss
