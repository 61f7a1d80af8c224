"""Training with an extra loss that is not reported to the server."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from adversary.participant.registry import Floats, Labels
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training, task_loss, train_whole


def train_beside(
    network: Network,
    inputs: Floats,
    labels: Labels,
    how: Training,
    names: list[str],
    extra: Callable[[torch.Tensor], torch.Tensor],
) -> float:
    """Train on the task's loss plus `extra` of the named weights, flattened into one vector.

    Returns
    -------
    float
        Mean of only the task's loss, in nats, as an honest client would report it.
    """
    held = dict(network.blocks.named_parameters())
    reported = []

    def loss(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        task = task_loss(module, x, y)
        reported.append((task.item() * len(y), len(y)))
        return task + extra(torch.cat([held[name].flatten() for name in names]))

    train_whole(network.blocks, inputs, labels, how, loss)
    return sum(total for total, _ in reported) / sum(count for _, count in reported)
