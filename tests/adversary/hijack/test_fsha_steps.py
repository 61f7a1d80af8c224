"""The attack's losses against torch's autograd and a closed form, and what its steps do to a client's encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from adversary.attacks.harness.hijacked import load_decoder
from adversary.hijack.config import HijackOptions
from adversary.hijack.fsha import Hijacker, Standardise
from client.watch import Watch
from wireleak.common.models import ModelConfig
from wireleak.common.wire.service import OverflowedError

MODEL = ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=2, cut=2, seed=5)


@pytest.fixture
def hijacker(pictures: Any) -> Hijacker:
    return Hijacker(MODEL, pictures(64, 1), HijackOptions(warm_up=60), seed=3)


def batch(seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).random((6, 32, 7, 7), dtype=np.float32)


def test_the_client_gets_the_critic_s_gradient_whatever_its_labels(hijacker: Hijacker, pictures: Any) -> None:
    twin = Hijacker(MODEL, pictures(64, 1), HijackOptions(warm_up=60), seed=3)
    for each in (hijacker, twin):
        each.step(batch(9), np.zeros(6, np.int64))  # the first answer comes after the warm-up
    z = torch.from_numpy(batch()).requires_grad_()
    (wanted,) = torch.autograd.grad(hijacker.nets["critic"](z).mean(), z)
    got, _ = hijacker.step(batch(), np.zeros(6, np.int64))
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-5, atol=1e-9)
    other, _ = twin.step(batch(), np.ones(6, np.int64))
    np.testing.assert_array_equal(got, other)
    torch.testing.assert_close(hijacker.nets.state_dict(), twin.nets.state_dict(), rtol=0, atol=0)


def test_the_critic_s_loss_in_closed_form(hijacker: Hijacker) -> None:
    """A linear critic w has slope w everywhere: w (mean z~ - mean z) + weight (|w| - 1)^2."""
    linear = nn.Linear(1568, 1, bias=False)
    hijacker.nets["critic"] = nn.Sequential(nn.Flatten(), linear)
    z, copies = torch.from_numpy(batch(1)), torch.from_numpy(batch(2))
    w = linear.weight.detach()[0]
    wanted = w @ (copies - z).flatten(1).mean(0) + 10 * (w.norm() - 1) ** 2
    assert hijacker._critic_loss(z, copies).item() == pytest.approx(wanted.item(), rel=1e-4)


def test_the_critic_sees_the_pilot_s_features_standardised(hijacker: Hijacker) -> None:
    hijacker.step(batch(), np.zeros(6, np.int64))
    standardise = next(hijacker.nets["critic"].children())
    assert isinstance(standardise, Standardise)
    with torch.no_grad():
        seen = standardise(hijacker.nets["pilot"](hijacker._public))
    varying = standardise.scale > standardise.scale.min()
    np.testing.assert_allclose(seen.mean((0, 2, 3)), 0, atol=0.1)
    np.testing.assert_allclose(seen.std((0, 2, 3))[varying], 1, atol=0.1)


def test_what_overflows_changes_nothing(hijacker: Hijacker) -> None:
    hijacker.step(batch(), np.zeros(6, np.int64))
    before = {name: value.clone() for name, value in hijacker.nets.state_dict().items()}
    with pytest.raises(OverflowedError):
        hijacker.step(np.full((6, 32, 7, 7), 3e38, np.float32), np.zeros(6, np.int64))
    torch.testing.assert_close(dict(hijacker.nets.state_dict()), before, rtol=0, atol=0)
    assert hijacker.iterations == 1


def test_a_client_is_led_where_the_decoder_can_follow(hijacker: Hijacker, pictures: Any, tmp_path: Path) -> None:
    """The encoder, trained by the client alone on what the server sends, comes to be invertible; the check notices."""
    private, unseen, draw = pictures(64, 11), torch.from_numpy(pictures(32, 12)), np.random.default_rng(0)
    encoder, _ = MODEL.network().split(2)
    optimiser = torch.optim.Adam(encoder.parameters(), 1e-3)
    watch = Watch(2)

    def error() -> float:
        hijacker.save(1, tmp_path / "head.safetensors", tmp_path)
        decoder, facts = load_decoder(tmp_path)
        assert facts["iterations"] == hijacker.iterations
        with torch.no_grad():
            return float((decoder(encoder(unseen)) - unseen).square().mean())

    for step in range(150):
        rows = draw.integers(0, 64, 16)
        activation = encoder(torch.from_numpy(private[rows]))
        labels = draw.integers(0, 2, 16)
        gradient, _ = hijacker.step(activation.detach().numpy().copy(), labels)
        watch.see(labels, gradient)
        optimiser.zero_grad()
        activation.backward(torch.from_numpy(gradient))
        if step < 50:
            continue  # the server learns first, so that what it gains from leading the encoder shows alone
        if step == 50:
            unled = error()
        optimiser.step()
    mean = float((unseen.mean(0) - unseen).square().mean())
    assert hijacker.public_mse < mean / 4
    assert error() < unled / 3
    assert watch.verdict()["hijack-suspected"] == 1


def test_a_folder_without_a_decoder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"granted.files.hijack: .* holds no decoder .*; give the folder"):
        load_decoder(tmp_path)
