"""Reading secrets out of a participant's update and out of averages; what float16 leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.registry import ATTACKS
from adversary.attacks.harness.threat import Vantage
from adversary.attacks.harness.training import Seen, Update
from adversary.attacks.harness.update_attack import ModelAttack
from adversary.participant import payloads, queries
from wireleak.common.models import ModelConfig, networks

SHAPE = (1, 6, 6)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    networks.names()  # registers ours, which must not be lost with the copy
    monkeypatch.setattr(networks.NETWORKS, "_plugins", dict(networks.NETWORKS._plugins))

    @networks.register("tiny-mlp")
    def mlp(input_shape: Any, classes: Any) -> nn.Sequential:
        return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(36, 100), nn.ReLU()), nn.Linear(100, classes))


def world(seed: Any = 0) -> Any:
    """A secret of two pictures, an honest state, and what the attacker knows."""
    model = ModelConfig(name="tiny-mlp", input_shape=SHAPE, classes=10, cut=1, seed=seed)
    state = {name: value.numpy().copy() for name, value in model.network().blocks.state_dict().items()}
    zero = np.zeros(0, np.float32)
    known = Knowledge(zero, zero.reshape(0, *SHAPE), np.zeros(0, np.int64), None, 0, np.zeros(0, bool), 0, model=model)
    secret = (np.random.default_rng(1).integers(0, 256, (2, *SHAPE)) / 255).astype(np.float32)
    return secret, state, known


def guess(name: Any, known: Any, seen: Any, count: Any = 2, **options: Any) -> Any:
    kind = ATTACKS.get(name)
    one = kind(kind.options(**options), 0)
    assert isinstance(one, ModelAttack)
    one.fit(replace(known, training=seen))
    found = one.guess(count)
    assert found.shape == (count, *SHAPE) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    return found, one.report


def planted(name: Any, secret: Any, state: Any) -> dict[str, np.ndarray]:
    """What the strategy would send, without training."""
    pixels = payloads.to_bytes(secret)
    names = payloads.carriers(state, matrices=name != "song-low-bits")
    values = payloads.flat(state, names)
    if name == "song-low-bits":
        layout = payloads.LowBitsLayout()
        made = payloads.write_low_bits(values, payloads.payload(pixels, True), layout)
    elif name == "song-sign":
        made = np.abs(values) * payloads.signs(pixels, len(values))
    else:
        made = -0.001 * payloads.levels(pixels, len(values))
    return payloads.unflat(made.astype(np.float32), state, names)


@pytest.mark.parametrize("name", ["song-low-bits", "song-sign", "song-correlated"])
def test_the_participants_last_update_is_read_else_the_last_global_model(name: str) -> None:
    secret, state, known = world()
    sent = planted(name, secret, state)
    seen = Seen({1: state, 2: state, 3: state}, (Update(0, 1, state, state), Update(0, 2, state, sent)))
    found, report = guess(name, known, seen)
    assert np.allclose(found, secret, atol=0.003) and report["read"] == "the participant's last update"
    assert report["measured"]["bits-per-parameter"] > 0.1
    found, report = guess(name, known, Seen({3: sent}, ()))
    assert np.allclose(found, secret, atol=0.003) and report["read"] == "the last global model"
    nothing, _ = guess(name, known, Seen({3: state}, ()))
    assert np.abs(nothing - secret).mean() > 0.2


def test_layouts_do_not_depend_on_the_order_of_layers() -> None:
    secret, state, known = world()
    sent = planted("song-sign", secret, state)
    backwards = dict(reversed(sent.items()))
    assert np.allclose(guess("song-sign", known, Seen({1: backwards}, ()))[0], secret)


@pytest.mark.parametrize(("name", "left"), [("song-low-bits", False), ("song-sign", True), ("song-correlated", True)])
def test_what_averaging_with_an_honest_client_leaves(name: str, left: bool) -> None:
    """Low bits are gone at once; signs and correlations fade with the honest weights' size."""
    secret, state, known = world()
    sent = planted(name, secret, state)
    honest = {key: value * 0.3 for key, value in world(5)[1].items()}
    average = {key: ((sent[key] + honest[key]) / 2).astype(np.float32) for key in sent}
    found, report = guess(name, known, Seen({1: average}, ()))
    error = np.abs(found - secret).mean()
    assert (error < 0.15) == left
    if not left:
        assert not found.any() and report["whole"] is False and report["measured"]["bits-per-parameter"] == 0


def test_what_float16_leaves() -> None:
    secret, state, known = world()
    for name, left in (("song-low-bits", False), ("song-sign", True), ("song-correlated", True)):
        found, _ = guess(name, known, Seen({1: planted(name, secret, state)}, ()), through="float16")
        assert (np.abs(found - secret).mean() < 0.02) == left


def test_capacity_abuse_is_read_by_queries_alone() -> None:
    """A model that was taught nothing but the labels."""
    secret, _, known = world()
    network = known.network().blocks
    asked = torch.from_numpy(queries.inputs(2, 9, SHAPE, 10))
    told = torch.from_numpy(queries.labels(payloads.to_bytes(queries.reduce(secret, 3)), 10))
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(300):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(asked), told).backward()
        optimiser.step()
    state = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    found, report = guess("song-capacity", known, Seen({1: state}, ()), side=3)
    small = np.asarray(payloads.to_bytes(queries.reduce(secret, 3)) // 16 * 16 / np.float32(255), np.float32)
    assert np.allclose(found, queries.enlarge(small, SHAPE), atol=1e-6)
    assert report["measured"] == {"queries": 36, "bits-per-query": 2.0}


def test_more_pictures_than_the_weights_hold_is_one_line() -> None:
    _, state, known = world()
    with pytest.raises(ValueError, match="do not fit into 4600 weights"):
        guess("song-sign", known, Seen({1: state}, ()), count=200)


@pytest.mark.parametrize("name", ["song-low-bits", "song-sign", "song-correlated", "song-capacity"])
def test_they_need_no_data_and_work_from_release(name: str) -> None:
    threat = ATTACKS.get(name).threat
    assert Vantage.RELEASE in threat.vantage and threat.knows == ("architecture",)
