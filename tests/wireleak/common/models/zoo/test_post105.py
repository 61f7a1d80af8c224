"""The network of the model-inversion post: shapes and parameter counts as published."""

from typing import Any

import pytest
import torch
from torch import nn

from wireleak.common.models import build

SHAPE = (1, 105, 105)


def count(module: Any, *kinds: Any) -> Any:
    layers = [layer for layer in module.modules() if isinstance(layer, kinds)]
    return sum(parameter.numel() for layer in layers for parameter in layer.parameters(recurse=False))


def layer(block: nn.Module, place: int) -> nn.Conv2d | nn.Linear:
    """The layer with weights at a place of a block."""
    assert isinstance(block, nn.Sequential)
    found = block[place]
    assert isinstance(found, nn.Conv2d | nn.Linear)
    return found


@pytest.mark.parametrize("name", ["post105", "post105-gn"])
def test_it_has_the_posts_parameters_and_shapes(name: str) -> None:
    network = build(name, SHAPE, 50, seed=0)
    encoder, head = network.split(4)
    assert count(encoder, nn.Conv2d) == 86_688
    assert count(encoder, nn.BatchNorm2d, nn.GroupNorm) == 256
    assert count(head, nn.Linear) == sum(p.numel() for p in head.parameters()) == 21_298
    assert [network.activation_shape(cut) for cut in network.cuts] == [
        (32, 33, 33), (32, 13, 13), (32, 4, 4), (32, 1, 1)
    ]  # fmt: skip
    sides = [
        layer(block, 0)(torch.zeros(1, inputs, side, side)).shape[-1]
        for block, inputs, side in zip(encoder, (1, 32, 32, 32), (105, 33, 13, 4), strict=True)
    ]
    assert sides == [99, 27, 9, 2]


def test_the_published_one_normalises_the_batch_and_the_private_one_does_not() -> None:
    published, private = (build(name, SHAPE, 50, 0).blocks for name in ("post105", "post105-gn"))
    norms = [layer for layer in published.modules() if isinstance(layer, nn.BatchNorm2d)]
    # Keras' momentum .99 is torch's .01.
    assert [(norm.momentum, norm.eps) for norm in norms] == [(0.01, 1e-3)] * 4
    assert [layer.p for layer in published.modules() if isinstance(layer, nn.Dropout)] == [0.2] * 5
    assert not [layer for layer in private.modules() if isinstance(layer, nn.BatchNorm2d | nn.Dropout)]


def test_first_weights_are_glorots() -> None:
    """Oracle: the variance of U(-a, a), a**2 = 6 / (fan in + fan out), is 2 / (fan in + fan out)."""
    blocks = build("post105", SHAPE, 50, 0).blocks
    for found, fans in ((layer(blocks[1], 0), 2 * 32 * 49), (layer(blocks[4], 1), 32 + 256)):
        assert found.weight.var().item() == pytest.approx(2 / fans, rel=0.05)
        assert found.weight.abs().max().item() <= (6 / fans) ** 0.5
        assert found.bias is not None and not found.bias.any()


def test_other_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"post105 takes inputs of \(1, 105, 105\), not \(1, 28, 28\)$"):
        build("post105", (1, 28, 28), 50, 0)
