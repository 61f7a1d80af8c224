"""Honest clients' updates, and what an attack on them knows: shared by the tests of gradient inversion."""

from typing import Any

import numpy as np
import torch

from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.training import Recipe, Seen, Update
from wireleak.common.models import ModelConfig
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan
from wireleak.common.traffic import ALL


def state(network: Any) -> Any:
    return {name: value.numpy().copy() for name, value in network.blocks.state_dict().items()}


def federate(
    config: Any,
    inputs: Any,
    labels: Any,
    *,
    rate: Any = 0.1,
    epochs: Any = 1,
    mini: Any = None,
    weights: Any = None,
    optimiser: Any = "sgd",
    aggregate: Any = False,
) -> Knowledge:
    """Knowledge of one round: `inputs` (clients, examples, ...), each client training on its own from one model."""
    network = ModelConfig.model_validate(config).network()
    if weights:
        network.blocks.load_state_dict(weights)
    start, ends = state(network), []
    examples = inputs.shape[1]
    for x, y in zip(inputs, labels, strict=True):
        network.blocks.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in start.items()})
        train_whole(
            network.blocks,
            x,
            y,
            Training(
                ClientPlan(epochs=epochs, batch=mini or examples, learning_rate=rate, optimiser=optimiser), (0, 1)
            ),
        )
        ends.append(state(network))
    updates = tuple(Update(number, 1, start, end) for number, end in enumerate(ends))
    if aggregate:
        mean = {name: np.mean([end[name] for end in ends], 0, dtype=value.dtype) for name, value in start.items()}
        updates = (Update(ALL, 1, start, mean),)
    recipe = Recipe(
        ClientPlan(rounds=1, epochs=epochs, batch=mini or examples, learning_rate=rate, optimiser=optimiser),
        len(ends),
        examples,
    )
    own = np.random.default_rng(9).random((8, *inputs.shape[2:])).astype(np.float32)
    return Knowledge(
        seen=np.zeros(0, np.float32),
        inputs=own,
        labels=np.zeros(8, np.int64),
        attribute=None,
        classes=0,
        augmented=np.zeros(8, bool),
        seed=0,
        model=ModelConfig.model_validate(config),
        training=Seen({1: start}, updates),
        recipe=recipe,
    )


def run(attack: Any, knowledge: Any) -> Any:
    """Fit and guess."""
    attack.fit(knowledge)
    return attack.guess(knowledge.training.updates)


def smooth(count: Any, side: Any, seed: Any) -> Any:
    """Smooth pictures (count, 1, side, side) in [0, 1]."""
    rng = np.random.default_rng(seed)
    waves = np.stack([np.cos(np.pi * k * (np.arange(side) + 0.5) / side) for k in range(4)])
    x = 0.5 + 0.2 * np.einsum("nij,ia,jb->nab", rng.standard_normal((count, 4, 4)), waves, waves)
    return x.clip(0, 1).astype(np.float32)[:, None]
