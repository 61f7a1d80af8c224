"""Pictures in low bits: what is sent is nearly what was computed, and the colluding attacker reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from skimage.transform import resize

from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.hidden.covert import Covert, CovertOptions
from client.transforms.registry import make
from wireleak.common.config import ConfigError, Plugin


def hide(activation: torch.Tensor, inputs: torch.Tensor, **options: Any) -> torch.Tensor:
    return make(Plugin(name="covert", options=options), 0)(activation, inputs)


def read(sent: torch.Tensor, shape: tuple[int, ...], **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
    attack = Covert(CovertOptions(**options), 0)
    nothing = np.zeros(0, np.float32)
    knowledge = Knowledge(
        nothing, np.zeros((0, *shape), np.float32), np.zeros(0, np.int64), None, 0, np.zeros(0, bool), 0
    )
    attack.fit(replace(knowledge, input_range=(0.0, 1.0)))
    return attack.guess(sent.numpy()), attack.report


def pictures(count: int = 6, shape: tuple[int, ...] = (1, 28, 28)) -> torch.Tensor:
    smooth = torch.rand(count, *[max(1, side // 7) for side in shape], generator=torch.Generator().manual_seed(2))
    size = shape[1:]
    return torch.nn.functional.interpolate(smooth, size=size, mode="nearest")[:, :1].expand(count, *shape).contiguous()


def activations(count: int, width: int) -> torch.Tensor:
    return torch.relu(torch.randn(count, width, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("options", [{}, {"key": "k"}, {"skip_zeros": True}, {"key": "k", "skip_zeros": True}])
def test_a_wide_activation_carries_the_whole_picture(options: dict[str, Any]) -> None:
    inputs, activation = pictures(), activations(6, 1200)
    guess, report = read(hide(activation, inputs, **options), (1, 28, 28), **options)
    assert np.abs(guess - inputs.numpy()).max() <= 0.5 / 255 + 1e-6 and report["pictures_whole"] == 6


def test_32_numbers_carry_22_by_22_black_and_white_pixels() -> None:
    """Oracle for the size: 32 numbers of 16 bits are 512 bits, and 22 x 22 = 484. For the pixels: scikit-image."""
    inputs = torch.from_numpy(np.random.default_rng(0).random((3, 1, 22, 22)).round().repeat(2, 2).repeat(2, 3)).float()
    guess, _ = read(hide(activations(3, 32), inputs), (1, 44, 44))
    for got, want in zip(guess, inputs.numpy(), strict=True):
        small = want[0, ::2, ::2]
        assert np.allclose(got[0], resize(small, (44, 44), order=1, mode="edge", anti_aliasing=False), atol=1e-5)


@pytest.mark.parametrize(("shape", "width", "bits"), [((3, 32, 32), 64, 16), ((6, 100), 300, 12), ((1, 28, 28), 40, 5)])
def test_any_shape_and_any_number_of_bits(shape: tuple[int, ...], width: int, bits: int) -> None:
    inputs = torch.linspace(0, 1, 4).view(4, *[1] * len(shape)).expand(4, *shape).round()
    guess, report = read(hide(activations(4, width), inputs, bits=bits), shape, bits=bits)
    assert report["pictures_whole"] == 4 and np.allclose(guess, inputs.numpy())


def test_what_is_sent_is_nearly_what_was_computed() -> None:
    """Sixteen low bits of a float32 change it by at most 2^-7."""
    activation = activations(6, 32)
    sent = hide(activation, pictures(), key="k")
    relative = ((sent - activation).abs() / activation)[activation > 0]
    assert relative.max() < 2**-7 and (sent[activation == 0].abs() < 1e-38).all()
    assert not torch.equal(sent, activation)
    spared = hide(activation, pictures(), skip_zeros=True)
    assert torch.equal(spared == 0, activation == 0)


def test_the_key_is_needed_and_every_message_looks_different() -> None:
    inputs = pictures(1).repeat(200, 1, 1, 1)
    sent = hide(activations(200, 32), inputs, key="right")
    assert read(sent, (1, 28, 28), key="wrong")[1]["pictures_whole"] == 0
    assert read(sent, (1, 28, 28), key="right")[1]["pictures_whole"] == 200
    bits = np.unpackbits((sent.numpy().view(np.uint32) & 0xFFFF).astype(">u2").view(np.uint8), axis=1)
    assert abs(bits.mean() - 0.5) < 0.01 and abs(bits.mean(0) - 0.5).max() < 0.2


@pytest.mark.parametrize("key", [None, "k"])
def test_rounding_leaves_nothing_to_read(key: str | None) -> None:
    sent = hide(activations(6, 1200), pictures(), key=key)
    rounded = make(Plugin(name="requantise", options={"bits": 7}), 0)(sent, pictures())
    guess, report = read(rounded, (1, 28, 28), key=key)
    assert report["pictures_whole"] == 0 and not guess.any()


def test_a_lost_picture_is_guessed_as_the_mean_of_the_others() -> None:
    inputs = pictures()
    sent = hide(activations(6, 1200), inputs)
    sent[2] = activations(1, 1200)
    guess, report = read(sent, (1, 28, 28))
    others = inputs.numpy()[[0, 1, 3, 4, 5]].mean(0)
    assert report["pictures_whole"] == 5 and np.allclose(guess[2], others, atol=1 / 255)


def test_an_example_with_no_room_is_sent_as_it_is() -> None:
    activation = torch.zeros(2, 32)
    activation[1] = 1.5
    sent = hide(activation, pictures(2), skip_zeros=True)
    assert not sent[0].any() and read(sent, (1, 28, 28), skip_zeros=True)[1]["pictures_whole"] == 1


def test_text_cannot_be_hidden() -> None:
    with pytest.raises(ConfigError, match=r"transforms\.covert: .*not inputs of shape \(20,\)"):
        hide(activations(2, 32), torch.zeros(2, 20))
