from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adversary.attacks.activations.reconstruction.shadow import Shadow, ShadowOptions, ShadowQuery, ShadowQueryOptions
from adversary.attacks.harness.knowledge import Knowledge
from wireleak.common.models import ModelConfig, networks, save_weights

SHAPE, CLASSES = (1, 4, 4), 4


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        networks.names()  # registers ours, which must not be lost with the copy
        patch.setattr(networks.NETWORKS, "_plugins", dict(networks.NETWORKS._plugins))
        networks.register("shadow-net")(shadow_net)
        yield


def shadow_net(input_shape: Any, classes: Any) -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(16, 32)), nn.Sequential(nn.ReLU(), nn.Linear(32, 4)))


@pytest.fixture(scope="module")
def world(registered: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A network trained on four quadrants' brightness, and what the attacker has of it."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.6, (400, *SHAPE)).astype(np.float32)
    y = rng.integers(0, 4, 400)
    for row, quadrant in zip(x, y, strict=True):
        row[0, 2 * (quadrant // 2) :][:2, 2 * (quadrant % 2) :][:, :2] += 0.4
    model = ModelConfig(name="shadow-net", input_shape=SHAPE, classes=CLASSES, cut=1, seed=3)
    network = model.network()
    optimiser = torch.optim.Adam(network.blocks.parameters(), 0.01)
    for _ in range(150):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(network.blocks(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimiser.step()
    encoder, head = network.split(1)
    path = tmp_path_factory.mktemp("granted") / "head.safetensors"
    save_weights(head, path)
    seen = encoder(torch.from_numpy(x)).detach().numpy()
    known = Knowledge(seen[:300], x[:300], y[:300], None, 0, np.zeros(300, bool), 0, model=model, head=path)
    return known, seen[300:], x[300:]


def mse(guess: Any, truth: Any) -> float:
    return float(np.mean((guess - truth) ** 2))


def test_shadow_by_query_rebuilds_inputs_through_its_shadow(world: Any) -> None:
    known, seen, truth = world
    attack = ShadowQuery(ShadowQueryOptions(tv=0, epochs=60, shadow_learning_rate=0.03, iterations=300), 0)
    attack.fit(known.limited(attack.threat.knows))
    assert attack.report["validation_loss"] < 0.01 * known.seen.var()
    assert mse(attack.guess(seen), truth) < 0.05 * mse(known.inputs.mean(0), truth)


def test_the_query_free_shadow_learns_the_task_from_the_head_alone(world: Any) -> None:
    known, seen, truth = world
    options = ShadowOptions(tv=0.1, epochs=30, shadow_learning_rate=0.02, iterations=200)
    attack = Shadow(options, 0)
    granted = known.limited(attack.threat.knows)
    assert not len(granted.seen) and granted.head is not None
    attack.fit(granted)
    # Cross-entropy of chance is log 4.
    assert attack.report["validation_loss"] < 0.4 * np.log(4)
    guess = attack.guess(seen)
    assert guess.shape == truth.shape and guess.min() >= 0 and guess.max() <= 1
    # What it rebuilds is the victim's, not somebody else's.
    assert mse(guess, truth) < 0.9 * mse(np.roll(guess, 1, axis=0), truth)


def test_the_head_is_what_its_labels_meet(world: Any) -> None:
    known, seen, _ = world
    options = ShadowOptions(epochs=2, iterations=2)
    before = known.head.read_bytes()
    first, again, other = Shadow(options, 0), Shadow(options, 0), Shadow(options, 0)
    first.fit(known)
    again.fit(known)
    other.fit(replace(known, labels=(known.labels + 1) % 4))
    assert np.array_equal(first.guess(seen), again.guess(seen))
    assert other.report["validation_loss"] != first.report["validation_loss"]
    assert known.head.read_bytes() == before


def test_the_shadow_starts_from_weights_of_its_own(world: Any) -> None:
    known, _, _ = world
    victims = known.network().blocks.state_dict()["0.1.weight"]
    for seed in (0, known.model.seed):
        network, cut = known.fresh_network(seed)
        assert cut == 1 and not torch.equal(network.blocks.state_dict()["0.1.weight"], victims)
    assert torch.equal(known.fresh_network(4)[0].blocks[1][1].weight, known.fresh_network(4)[0].blocks[1][1].weight)


def test_what_is_not_granted_is_named(world: Any) -> None:
    known, _, _ = world
    with pytest.raises(ValueError, match=r"granted\.head"):
        Shadow(ShadowOptions(), 0).fit(replace(known, head=None))
    with pytest.raises(ValueError, match=r"granted\.model"):
        ShadowQuery(ShadowQueryOptions(), 0).fit(replace(known, model=None))
