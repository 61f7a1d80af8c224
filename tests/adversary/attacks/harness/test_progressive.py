"""Decoders for activations of real networks: their shapes, their size, and that they learn."""

from typing import Any

import pytest
import torch
from torch import nn

from adversary.attacks.harness.decoders import DenseDecoder, LocalDecoder
from adversary.attacks.harness.progressive import (
    ProgressiveDecoder,
    SeedDecoder,
    TokenDecoder,
    build_decoder,
    footprint,
    parameters,
    token_grid,
)
from wireleak.common.targets.memory import DECODER_PARAMETERS

LARGE = (3, 224, 224)


@pytest.mark.parametrize(
    ("activation", "image", "kind"),
    [
        ((16, 14, 14), (1, 28, 28), LocalDecoder),
        ((32, 4, 4), (1, 28, 28), DenseDecoder),
        ((32, 1, 1), (1, 28, 28), DenseDecoder),
        ((512,), (1, 28, 28), DenseDecoder),
        ((16, 16, 16), (3, 32, 32), LocalDecoder),
        ((32, 1, 1), (1, 105, 105), DenseDecoder),
        ((64, 16), (6, 128), DenseDecoder),
        ((4, 14, 7), (1, 28, 28), DenseDecoder),
    ],
)
def test_small_problems_keep_the_decoders_that_they_had(activation: Any, image: Any, kind: Any) -> None:
    assert type(build_decoder(activation, image, 1.0, torch.zeros(image))) is kind


@pytest.mark.parametrize(
    ("activation", "image", "kind"),
    [
        ((32, 112, 112), LARGE, LocalDecoder),
        ((24, 56, 56), LARGE, LocalDecoder),
        ((512, 28, 28), LARGE, ProgressiveDecoder),
        ((112, 14, 14), LARGE, ProgressiveDecoder),
        ((1280, 7, 7), LARGE, ProgressiveDecoder),
        ((64, 5, 9), LARGE, ProgressiveDecoder),
        ((3, 260, 260), LARGE, ProgressiveDecoder),
        ((320, 3, 3), (3, 95, 97), ProgressiveDecoder),
        ((1280, 1, 1), LARGE, SeedDecoder),
        ((401_408,), LARGE, SeedDecoder),
        ((1280,), (3, 96, 96), SeedDecoder),
        ((197, 192), LARGE, TokenDecoder),
        ((196, 192), LARGE, TokenDecoder),
        ((65, 64), (3, 32, 32), TokenDecoder),
        ((128, 8), (6, 4096), ProgressiveDecoder),
        ((100_000,), (6, 512), SeedDecoder),
        ((400_000,), (3000,), DenseDecoder),
    ],
)
def test_large_ones_are_bounded_and_give_the_image(activation: Any, image: Any, kind: Any) -> None:
    count, hidden = footprint(activation, image, 1.0)
    assert count <= DECODER_PARAMETERS and hidden < 1e7
    decoder = build_decoder(activation, image, 0.25, torch.rand(image))
    assert type(decoder) is kind
    with torch.no_grad():
        assert decoder.eval()(torch.randn(2, *activation)).shape == (2, *image)


def test_learning_starts_from_the_mean_image() -> None:
    mean = torch.rand(3, 96, 96)
    for activation in ((64, 12, 12), (1280,), (37, 48)):
        decoder = build_decoder(activation, tuple(mean.shape), 1.0, mean).eval()
        with torch.no_grad():
            found = decoder(torch.randn(2, *activation))
        if not isinstance(decoder, TokenDecoder):
            assert torch.allclose(found, mean.expand_as(found), atol=1e-6)


@pytest.mark.parametrize(
    ("activation", "image", "grid"),
    [
        ((197, 768), LARGE, (14, 14)),
        ((196, 768), LARGE, (14, 14)),
        ((198, 384), LARGE, (14, 14)),
        ((261, 384), LARGE, (16, 16)),
        ((9, 32), (3, 32, 64), (2, 4)),
        ((8, 32), (3, 32, 64), (2, 4)),
        ((12, 32), LARGE, None),
        ((1, 32), LARGE, None),
        ((768,), LARGE, None),
        ((64, 32), (6, 128), None),
    ],
)
def test_tokens_are_put_on_the_images_grid(activation: Any, image: Any, grid: Any) -> None:
    assert token_grid(activation, image) == grid


def test_a_token_decoder_sees_each_token_in_its_place_and_the_class_token_everywhere() -> None:
    torch.manual_seed(0)
    decoder = TokenDecoder((17, 8), (3, 32, 32), 1.0, torch.zeros(3, 32, 32))
    assert isinstance(decoder.picture, nn.Module) and decoder.grid == (4, 4) and decoder.extra == 1
    decoder.picture = nn.Identity()
    tokens = torch.randn(1, 17, 8)
    maps = decoder(tokens)[0]
    assert torch.equal(maps[:8, 1, 2], tokens[0, 1 + 4 + 2])
    assert torch.equal(maps[8:, 0, 0], maps[8:, 3, 3])
    changed = tokens.clone()
    changed[:, 0] += 1
    assert not torch.equal(decoder(changed)[0, 8:], maps[8:]) and torch.equal(decoder(changed)[0, :8], maps[:8])


@pytest.mark.parametrize("activation", [(8, 3, 3), (6000,)])
def test_a_large_decoder_learns(activation: Any) -> None:
    """Pictures of two brightnesses, whose code is in one channel."""
    torch.manual_seed(0)
    bright = torch.rand(32, 1, 1, 1)
    x = bright.expand(32, 3, 64, 64)
    z = torch.zeros(32, *activation)
    z[:, :1] = (bright.flatten(1) - 0.5).view(32, *[1] * len(activation)) if len(activation) > 1 else bright.view(32, 1)
    decoder = (ProgressiveDecoder if len(activation) > 1 else SeedDecoder)(
        activation, (3, 64, 64), 0.25, x.mean(0), *([] if len(activation) > 1 else [0.0])
    )
    optimiser = torch.optim.AdamW(decoder.parameters(), 0.003)
    for _ in range(60):
        loss = nn.functional.mse_loss(decoder(z), x)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    assert float(loss.detach()) < 0.2 * float(x.var())


def test_a_footprint_allocates_nothing() -> None:
    count, hidden = footprint((64, 12, 12), (3, 96, 96), 1.0)
    decoder = build_decoder((64, 12, 12), (3, 96, 96), 1.0, torch.zeros(3, 96, 96))
    assert count == parameters(decoder) and hidden > 3 * 96 * 96
