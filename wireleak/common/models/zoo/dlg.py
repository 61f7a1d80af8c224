"""The LeNet that Deep Leakage from Gradients attacks, in its two forms: smooth, as published, and with ReLU."""

from __future__ import annotations

import torch
from torch import nn

from wireleak.common.models.networks import register

CHANNELS, KERNEL, SPREAD = 12, 5, 0.5


@register("dlg-lenet")
def dlg_lenet(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Three sigmoid convolutions 12 of 5x5, strides 2, 2, 1, and one dense layer; all weights uniform in (-.5, .5).

    As in Zhu, Liu, Han, "Deep Leakage from Gradients", NeurIPS 2019 (`mit-han-lab/dlg`): the sigmoid makes second
    derivatives smooth, and the wide weights keep its gradients from vanishing. 768 features at 32x32, 588 at 28x28.

    Raises
    ------
    ValueError
        The input is no image of at least 8x8.
    """
    return _blocks("dlg-lenet", input_shape, classes, nn.Sigmoid)


@register("dlg-lenet-relu")
def dlg_lenet_relu(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The same with ReLU, whose second derivative is zero nearly everywhere, and with torch's own first weights.

    Raises
    ------
    ValueError
        The input is no image of at least 8x8.
    """
    return _blocks("dlg-lenet-relu", input_shape, classes, nn.ReLU)


def _blocks(name: str, input_shape: tuple[int, ...], classes: int, activation: type[nn.Module]) -> nn.Sequential:
    if len(input_shape) != 3 or min(input_shape[1:]) < 8:
        raise ValueError(f"model: {name} takes images (channels, height, width) of at least 8x8, not {input_shape}")
    blocks, inputs = [], input_shape[0]
    for stride in (2, 2, 1):
        blocks.append(nn.Sequential(nn.Conv2d(inputs, CHANNELS, KERNEL, stride, KERNEL // 2), activation()))
        inputs = CHANNELS
    # Twice halved, rounded up.
    height, width = (-(-side // 4) for side in input_shape[1:])
    network = nn.Sequential(*blocks, nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * height * width, classes)))
    if activation is nn.Sigmoid:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.uniform_(-SPREAD, SPREAD)
    return network
