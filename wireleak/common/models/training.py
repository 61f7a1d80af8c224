"""Local training of a network: one recipe for honest clients and for attackers that imitate them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from wireleak.common.plan import ClientPlan, Optimiser

Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Training:
    """How a client trains in one round.

    Parameters
    ----------
    plan : ClientPlan
        Adam's moments start anew with each round, as the weights do; SGD is plain, without momentum, so that one step
        sends its gradient times the learning rate.
    seed : sequence of int
        Of the order of examples.
    """

    plan: ClientPlan
    seed: tuple[int, ...]

    def batches(self, count: int) -> Iterator[np.ndarray]:
        """Rows of each step, shuffled for each epoch."""
        order = np.random.default_rng(self.seed)
        for _ in range(self.plan.epochs):
            rows = order.permutation(count)
            starts = list(range(0, count, self.plan.batch))
            if count % self.plan.batch == 1 and len(starts) > 1:
                # Batch normalisation cannot train on one example, so a last one goes with the batch before.
                starts.pop()
            yield from np.split(rows, starts[1:])

    def optimise(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of a module's parameters."""
        return optimiser(self.plan.optimiser, module, self.plan.learning_rate)


def seed_libraries(seed: tuple[int, ...]) -> None:
    """Seed the generators of torch (Dropout) and of numpy, from which Flower's mods draw noise after training."""
    state = np.random.SeedSequence(seed).generate_state(10)
    np.random.seed(state[:8])
    torch.manual_seed(int(state[8:].view(np.uint64)[0]) >> 1)


def optimiser(name: Optimiser, module: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Adam or plain SGD of a module's parameters."""
    kind = torch.optim.Adam if name == "adam" else torch.optim.SGD
    return kind(module.parameters(), lr=learning_rate)


def task_loss(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the network's answers, in nats."""
    return cross_entropy(network(inputs), labels)


def train_whole(
    network: nn.Module,
    inputs: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    how: Training,
    loss: Loss = task_loss,
) -> float:
    """Train the whole network on a private shard.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    inputs, labels : arrays of shapes (n, *input_shape) and (n,)
        The private shard.
    how : Training
    loss : callable
        (network, inputs, labels) -> a scalar, the mean over the batch.

    Returns
    -------
    float
        Mean loss over all examples seen, in nats.
    """
    stepping = how.optimise(network)
    network.train()
    total, seen = 0.0, 0
    for rows in how.batches(len(inputs)):
        step = loss(network, torch.from_numpy(inputs[rows]), torch.from_numpy(labels[rows]))
        stepping.zero_grad(set_to_none=True)
        step.backward()
        stepping.step()
        total, seen = total + step.item() * len(rows), seen + len(rows)
    return total / seen
