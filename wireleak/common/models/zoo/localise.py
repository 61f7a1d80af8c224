"""The networks of Mo et al., "Layer-wise Characterization of Latent Information Leakage" (arXiv 2010.08762), and ours.

Theirs are an AlexNet-like convolutional network and a deep, narrow, fully connected one, for 28x28 and 32x32 images.
Ours is a small convolutional network through which inputs can be searched. None has a normalisation: gradients reach
every layer as the paper's do. Weights are drawn as He et al. (ICCV 2015) do for ReLU. The paper names no
initialisation; under torch's own, the signal shrinks by about 2.4 a layer, and plain SGD without momentum moves little
in the paper's 100 rounds.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TypeVar

from torch import nn

from wireleak.common.models.networks import register

CHANNELS, KERNEL, WIDTH = 12, 5, 64

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


@register("mo-alexnet")
def mo_alexnet(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Convolutions 16, 32 and 64 of 3x3, each with ReLU and a pool of 2, then dense 256 and the output.

    Raises
    ------
    ValueError
        The input is no image of 8x8 or more.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 8:
        raise ValueError(f"model: mo-alexnet takes images (channels, height, width) of at least 8x8, not {input_shape}")
    channels, height, width = input_shape

    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(_drawn(nn.Conv2d(inputs, outputs, 3, padding=1)), nn.ReLU(), nn.MaxPool2d(2))

    return nn.Sequential(
        block(channels, 16),
        block(16, 32),
        block(32, 64),
        nn.Sequential(nn.Flatten(), _drawn(nn.Linear(64 * (height // 8) * (width // 8), 256)), nn.ReLU()),
        nn.Sequential(_drawn(nn.Linear(256, classes))),
    )


@register("localise-lenet")
def localise_lenet(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Convolutions 12 of 5x5, strides 2, 2, 1, then dense 64 and the output, with ReLU: ours, to search inputs in.

    It is smaller than the paper's network, and has strides instead of pools. A search through maximum pools ends in
    local minima even with the gradients of all layers, so it would not show how much one layer reveals.

    Raises
    ------
    ValueError
        The input is no image of 8x8 or more.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 8:
        raise ValueError(
            f"model: localise-lenet takes images (channels, height, width) of at least 8x8, not {input_shape}"
        )
    blocks, inputs = [], input_shape[0]
    for stride in (2, 2, 1):
        blocks.append(nn.Sequential(_drawn(nn.Conv2d(inputs, CHANNELS, KERNEL, stride, KERNEL // 2)), nn.ReLU()))
        inputs = CHANNELS
    # Twice halved, rounded up.
    height, width = (-(-side // 4) for side in input_shape[1:])
    dense = nn.Sequential(nn.Flatten(), _drawn(nn.Linear(CHANNELS * height * width, WIDTH)), nn.ReLU())
    return nn.Sequential(*blocks, dense, nn.Sequential(_drawn(nn.Linear(WIDTH, classes))))


@register("mo-fcnet")
def mo_fcnet(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Nine dense layers of 32 with ReLU, then the output, which the paper does not seem to count."""
    widths = [prod(input_shape), *[32] * 9]
    hidden = [nn.Sequential(_drawn(nn.Linear(inputs, outputs)), nn.ReLU()) for inputs, outputs in pairwise(widths)]
    hidden[0].insert(0, nn.Flatten())
    return nn.Sequential(*hidden, nn.Sequential(_drawn(nn.Linear(32, classes))))


def _drawn(layer: Layer) -> Layer:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
