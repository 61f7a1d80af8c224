"""A network that begins with one wide linear layer on the pixels: where a malicious server puts its imprint."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from wireleak.common.models.networks import register

# Bins by name: a client is told the network's name, and its width is the server's choice.
WIDTHS = {"imprint28": 128, "imprint28-512": 512}


def _builder(name: str, bins: int) -> Callable[[tuple[int, ...], int], nn.Sequential]:
    def imprint28(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
        """Linear layer on the flattened input | ReLU | linear head: to its users a perceptron of one hidden layer.

        Raises
        ------
        ValueError
            The input is no 28x28 image.
        """
        if len(input_shape) != 3 or input_shape[1:] != (28, 28):
            raise ValueError(f"model: {name} takes inputs of (channels, 28, 28), not {input_shape}")
        first = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), bins))
        return nn.Sequential(first, nn.ReLU(), nn.Linear(bins, classes))

    return imprint28


for _name, _bins in WIDTHS.items():
    register(_name)(_builder(_name, _bins))
