"""Weights from a user's file: formats, names that differ, and a last layer for other classes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wireleak.common.models import ModelConfig, build
from wireleak.common.models.pretrained import WeightsError, load_pretrained, read_state

MODEL = f"{Path(__file__).resolve().parents[4] / 'examples' / 'audit_model.py'}:make"


def made(seed: int, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


@pytest.mark.parametrize("kind", ["safetensors", "torch", "nested", "wrapped"])
def test_a_state_dict_is_read_in_the_formats_that_people_save(kind: str, tmp_path: Path) -> None:
    state, path = made(1).state_dict(), tmp_path / "w"
    if kind == "safetensors":
        save_file(state, path)
    else:
        wrapped = {f"module.{name}": value for name, value in state.items()}
        saved: Any = {"torch": state, "nested": {"epoch": 3, "state_dict": state}, "wrapped": wrapped}[kind]
        torch.save(saved, path)
    other = made(2)
    assert load_pretrained(other, path, 3) == ()
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


def test_a_file_that_runs_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(pickle.dumps(Path("x")))
    with pytest.raises(
        WeightsError, match=r"is neither safetensors nor a torch state dict .*save model.state_dict"
    ) as e:
        read_state(path)
    assert "\n" not in str(e.value)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="is not a state dict"):
        read_state(path)
    with pytest.raises(WeightsError, match=r"weights: no file .*none.pt"):
        read_state(tmp_path / "none.pt")


def test_a_mismatch_names_the_key_and_the_nearest(tmp_path: Path) -> None:
    path, state = tmp_path / "w.safetensors", made(1).state_dict()
    renamed = {name.replace("3.weight", "3.weights"): value for name, value in state.items()}
    save_file(renamed, path)
    with pytest.raises(WeightsError, match=r"lacks '3.weight'; the nearest name it has is '3.weights'"):
        load_pretrained(made(2), path, 3)
    save_file(state | {"5.bias": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"the network has no '5.bias', which .* holds; the nearest .*'\d.bias'"):
        load_pretrained(made(2), path, 3)
    save_file(state | {"0.weight": torch.zeros(4, 2, 3, 3)}, path)
    with pytest.raises(
        WeightsError, match=r"'0.weight' of .* has shape \(4, 2, 3, 3\), the network's is \(4, 1, 3, 3\)"
    ):
        load_pretrained(made(2), path, 3)


def test_a_last_layer_of_other_classes_is_left_out(tmp_path: Path) -> None:
    path, other = tmp_path / "w.safetensors", made(2)
    save_file(made(1, classes=1000).state_dict(), path)
    before = other.state_dict()["3.weight"].clone()
    assert load_pretrained(other, path, 3) == ("3.weight", "3.bias")
    assert torch.equal(other.state_dict()["3.weight"], before)
    assert torch.equal(other.state_dict()["0.weight"], made(1).state_dict()["0.weight"])


def test_a_users_network_begins_with_its_file_at_every_cut(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(build(MODEL, (1, 28, 28), 2, seed=5).whole.state_dict(), path)
    x = torch.rand(2, 1, 28, 28)
    wanted = build(MODEL, (1, 28, 28), 2, seed=5).whole.eval()(x)
    network = ModelConfig(name=MODEL, input_shape=(1, 28, 28), classes=2, cut=1, seed=0, weights=path).network()
    np.testing.assert_array_equal(network.blocks.eval()(x).detach(), wanted.detach())
    assert not torch.equal(build(MODEL, (1, 28, 28), 2, seed=0).blocks.eval()(x), wanted)
