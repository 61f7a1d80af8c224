"""Small federated trainings for the tests of attacks on membership."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.training import Recipe, Seen, Update
from wireleak.common.models import ModelConfig, networks
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan

LENGTH, VOCABULARY = 6, 60


def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a perceptron, and a bag of embeddings, for these tests only."""
    networks.names()  # registers ours, which must not be lost with the copy
    monkeypatch.setattr(networks.NETWORKS, "_plugins", dict(networks.NETWORKS._plugins))

    @networks.register("tiny-mlp")
    def mlp(input_shape: Any, classes: Any) -> nn.Sequential:
        return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(12, 64), nn.ReLU()), nn.Linear(64, classes))

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(VOCABULARY, 8, padding_idx=0)

        def forward(self, numbers: Any) -> Any:
            return self.table(numbers.long()).mean(1)

    @networks.register("tiny-bag")
    def bag(input_shape: Any, classes: Any) -> nn.Sequential:
        return nn.Sequential(Bag(), nn.Linear(8, classes))


def examples(n: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Weak signal, much noise: whoever gets all of it right has learnt it by heart."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 2, n)
    x = draw.normal(size=(n, 12)).astype(np.float32)
    x[:, 0] += 0.7 * (2 * y - 1)
    return x, y.astype(np.int64)


def trained(
    blocks: Any, start: Any, x: Any, y: Any, epochs: Any, seed: Any, optimiser: Any = "adam", learning_rate: Any = 0.01
) -> Any:
    blocks.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in start.items()})
    train_whole(
        blocks,
        x,
        y,
        Training(ClientPlan(epochs=epochs, batch=8, learning_rate=learning_rate, optimiser=optimiser), (seed,)),
    )
    return {name: value.numpy().copy() for name, value in blocks.state_dict().items()}


def mean(states: Any) -> Any:
    return {name: np.mean([one[name] for one in states], 0) for name in states[0]}


def federation(
    tmp_path: Path,
    epochs: Any,
    rounds: Any = 3,
    clients: Any = 2,
    shard: Any = 40,
    strangers: Any = None,
    learning_rate: float = 0.01,
    named: bool = False,
) -> Any:
    """A federated training as an eavesdropper on the links sees it, and what it is told and asked."""
    members = shard * clients
    strangers = strangers or members
    model = ModelConfig(name="tiny-mlp", input_shape=(12,), classes=2, cut=1)
    blocks = model.network().blocks
    shards = [examples(shard, 10 + number) for number in range(clients)]
    now = {name: value.numpy().copy() for name, value in blocks.state_dict().items()}
    models, updates = {1: now}, []
    for number in range(1, rounds + 1):
        ends = [
            trained(blocks, now, *shards[place], epochs, 100 * number + place, learning_rate=learning_rate)
            for place in range(clients)
        ]
        updates += [Update(place, number, now, end) for place, end in enumerate(ends)]
        now = models[number + 1] = mean(ends)
    everyone = [*shards, examples(strangers, 50)]
    order = np.random.default_rng(0).permutation(members + strangers)
    x, y = np.concatenate([x for x, _ in everyone])[order], np.concatenate([y for _, y in everyone])[order]
    whose = np.repeat(np.arange(clients), shard).tolist() + [number % clients for number in range(strangers)]
    asked: dict[str, Any] = {"client": np.array(whose)[order]} if named else {}
    np.savez(tmp_path / "records.npz", x=x, y=y, **asked)
    own = examples(400, 60)
    zero = np.zeros(0, np.float32)
    known = Knowledge(zero, *own, None, 0, np.zeros(len(own[0]), bool), 0, model=model)
    recipe = Recipe(ClientPlan(rounds=rounds, epochs=epochs, batch=8, learning_rate=learning_rate), clients, shard)
    seen = Seen(models, tuple(updates))
    known = replace(known, files={"records": tmp_path / "records.npz"}, training=seen, recipe=recipe)
    return known, np.repeat([1, 0], [members, strangers])[order]


def released(known: Any) -> Any:
    last = max(known.training.models)
    return replace(known, training=Seen({last: known.training.models[last]}, ()))


def auc(attack: Any, known: Any, truth: Any, **options: Any) -> Any:
    one = attack(attack.options(**options), 0)
    one.fit(known)
    guess = one.guess(len(truth))
    assert guess.shape == (len(truth), 2) and np.allclose(guess.sum(1), 1, atol=1e-6) and (guess >= 0).all()
    return roc_auc_score(truth, guess[:, 1])
