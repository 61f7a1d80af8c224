"""Split training in this process, with transforms that train: the steps of `train_split`, no wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn.functional import cross_entropy

from client.transforms.registry import Batch, Scene, Transform, make
from wireleak.common.config import Plugin


@dataclass
class Trained:
    transform: Transform | None
    encoder: nn.Module
    head: nn.Module
    inputs: torch.Tensor
    labels: torch.Tensor
    private: Mapping[str, torch.Tensor]

    def activations(self) -> torch.Tensor:
        with torch.no_grad():
            return cast(torch.Tensor, self.encoder(self.inputs))

    def accuracy(self) -> float:
        with torch.no_grad():
            return float((self.head(self.activations()).argmax(1) == self.labels).float().mean())

    def fresh_attacker(self, attribute: str) -> float:
        """Accuracy of a logistic regression that scikit-learn fits on half of the activations, on the other half."""
        rows, truth = self.activations().flatten(1).numpy(), self.private[attribute].numpy()
        half = len(rows) // 2
        model = LogisticRegression(max_iter=500).fit(rows[:half], truth[:half])
        return float(model.score(rows[half:], truth[half:]))


def one(name: str, **options: Any) -> Transform:
    return make(Plugin(name=name, options=options), seed=0)


def steps(
    transform: Transform | None,
    encoder: nn.Module,
    head: nn.Module,
    inputs: Any,
    labels: Any,
    private: Any,
    epochs: int,
) -> Trained:
    torch.manual_seed(3)  # of the encoder's dropout
    optimisers = [torch.optim.Adam(module.parameters(), lr=0.01) for module in (encoder, head)]
    if transform is not None:
        shape = tuple(encoder.eval()(inputs[:1]).shape[1:])
        encoder.train()
        values = {name: int(found.max()) + 1 for name, found in private.items()}
        transform.prepare(Scene(tuple(inputs.shape[1:]), shape, values, 0.01))
    order = torch.Generator().manual_seed(1)
    for epoch in range(epochs):
        for rows in torch.randperm(len(inputs), generator=order).split(32):
            activation = encoder(inputs[rows])
            sent = activation.detach() if transform is None else transform(activation.detach(), inputs[rows])
            sent = sent.requires_grad_()
            for optimiser in optimisers:
                optimiser.zero_grad()
            cross_entropy(head(sent), labels[rows]).backward()
            wanted, gradients = [activation], [sent.grad]
            if transform is not None:
                known = {name: found[rows] for name, found in private.items()}
                extra = transform.loss(activation, Batch(inputs[rows], labels[rows], known, epoch / epochs))
                wanted, gradients = [activation, extra], [sent.grad, None]
            torch.autograd.backward(wanted, gradients)
            for optimiser in optimisers:
                optimiser.step()
    return Trained(transform, encoder.eval(), head, inputs, labels, private)


@pytest.fixture
def split_training() -> Callable[..., Trained]:
    """(name or None, options) -> what came of it: 512 vectors of 8, their first signs task and private label."""

    def train(name: str | None, *, epochs: int = 12, dropout: float = 0.0, **options: Any) -> Trained:
        torch.manual_seed(0)
        inputs = torch.randn(512, 8)
        encoder = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(dropout))
        head = nn.Linear(16, 2)
        signs = (inputs[:, :2] > 0).long()
        transform = one(name, **options) if name else None
        return steps(transform, encoder, head, inputs, signs[:, 0], {"secret": signs[:, 1]}, epochs)

    return train
