"""A chain of transforms, and one that another package adds: it trains the encoder, lasts over rounds and is told of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from client.__main__ import app as command
from client.transforms import registry
from client.transforms.chain import Chain
from client.transforms.registry import Batch, Scene
from wireleak.common.config import ConfigError, Plugin

OUTSIDE = '''
import torch
from pydantic import BaseModel, Field
from torch import nn

from client.transforms.registry import Changes, Transform


class Options(BaseModel):
    weight: float = Field(1.0, ge=0)


class Shrink(Transform):
    """Pull activations to a centre that is learnt on the way."""

    name = "shrink"
    options = Options
    changes = Changes("pulls activations to a centre", wire="smaller numbers")

    def prepare(self, scene):
        self.centre = nn.Linear(1, scene.activation_shape[0], bias=False)
        nn.init.zeros_(self.centre.weight)
        return self.centre

    def private(self):
        return ("slant",)

    def loss(self, activation, batch):
        with torch.no_grad():
            self.centre.weight += batch.private["slant"].float().mean()
        return self.settings.weight * (activation - self.centre.weight[:, 0]).square().mean()

    def told(self):
        return {"centre": self.centre.weight.mean().item()}
'''


@pytest.fixture
def outside(installed: Any) -> None:
    """An installed package with a defence of its own."""
    installed(registry.TRANSFORMS, OUTSIDE, shrink="outside:Shrink")


def batch(progress: Any = 0.0) -> Batch:
    ones = torch.ones(3, dtype=torch.long)
    return Batch(torch.zeros(3, 2), ones, {"slant": ones}, progress)


def test_an_outside_package_adds_a_defence_that_trains_and_lasts_over_rounds(outside: Any, tmp_path: Path) -> None:
    chain = Chain([Plugin(name="shrink", options={"weight": 2.0})], seed=0)
    assert chain.trains and chain.private == ["slant"]
    chain.prepare(Scene((2,), (4,), {"slant": 2}, 0.1), tmp_path / "kept")
    activation = torch.zeros(3, 4, requires_grad=True)
    loss = chain.loss(activation, batch())
    assert loss is not None
    loss.backward()
    assert activation.grad is not None
    assert loss.item() == pytest.approx(2.0) and torch.allclose(activation.grad, torch.full((3, 4), -4 / 12))
    assert chain.told() == {"own/shrink/centre": 1.0}
    chain.keep(tmp_path / "kept")
    again = Chain([Plugin(name="shrink")], seed=0)
    again.prepare(Scene((2,), (4,), {"slant": 2}, 0.1), tmp_path / "kept")
    assert again.told() == {"own/shrink/centre": 1.0}


def test_the_command_says_what_it_changes_and_needs(outside: Any) -> None:
    told = json.loads(CliRunner().invoke(command, ["transforms", '[{"name": "shrink"}]']).stdout)
    assert told[0]["device"] == "pulls activations to a centre" and told[0]["wire"] == "smaller numbers"
    assert told[0]["private"] == ["slant"] and told[0]["guarantee"] is None


def test_a_defence_that_trains_the_encoder_needs_split_mode(outside: Any) -> None:
    done = CliRunner().invoke(command, ["transforms", '[{"name": "shrink"}]', "--mode", "federated"])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert 'transforms.shrink: trains the encoder against the head; set mode = "split"' in done.stderr


def test_losses_of_several_steps_add_up(outside: Any) -> None:
    steps = [Plugin(name="shrink", options={"weight": weight}) for weight in (1.0, 3.0)]
    chain = Chain([steps[0], Plugin(name="noise", options={"sigma": 1.0}), steps[1]], seed=0)
    chain.prepare(Scene((2,), (4,), {"slant": 2}, 0.1), None)
    loss = chain.loss(torch.zeros(3, 4, requires_grad=True), batch())
    assert loss is not None and loss.item() == pytest.approx(4.0)
    assert Chain([Plugin(name="noise", options={"sigma": 1.0})], 0).loss(torch.zeros(3, 4), batch()) is None


def test_a_transform_that_does_not_say_what_it_changes_is_refused() -> None:
    silent = type("Silent", (registry.Transform,), {"name": "silent", "__call__": lambda self, a, x: a})
    with pytest.raises(ConfigError, match=r"^transforms.silent: gives no `changes`"):
        registry.register(silent)


def test_private_attributes_come_from_the_training_file(tmp_path: Path) -> None:
    from client.examples import read_private

    path = tmp_path / "train.npz"
    rounds = np.array([1, 2, 2])
    arrays = {"attribute:slant": np.array([0, 1, 1]), "values:slant": np.array(2), "round": rounds}
    np.savez(path, allow_pickle=False, **arrays)
    found, values = read_private(path, ["slant"], "train", 2)
    assert found["slant"].tolist() == [1, 1] and values == {"slant": 2}
    with pytest.raises(ConfigError, match=r"^train: .* holds no array called attribute:age"):
        read_private(path, ["age"], "train")
    np.savez(path, allow_pickle=False, **{"attribute:slant": np.array([0, 2]), "values:slant": np.array(2)})
    with pytest.raises(ConfigError, match=r"^train: attribute:slant .* must be int64 in 0..1"):
        read_private(path, ["slant"], "train")
