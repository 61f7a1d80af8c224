"""The latents post's network: an autoencoder's encoder on the device, a classifier of 32 latents on the service."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from wireleak.models.networks import register

ENCODER = (700, 500, 300, 32)
HEAD = (600, 500, 300, 100)


@register("latents")
def latents(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Perceptron (input)-700-500-300-32-600-500-300-100-(classes), ReLU between; cut 4 sends the 32 latents.

    The post's sizes. Its classifier also has a ReLU on the logits; we leave that one out: a class whose logit is
    negative for every example of it gets no gradient and is never learnt.
    """
    sides = [math.prod(input_shape), *ENCODER, *HEAD]
    blocks = [nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU()) for inputs, outputs in pairwise(sides)]
    blocks[0].insert(0, nn.Flatten())
    return nn.Sequential(*blocks, nn.Linear(HEAD[-1], classes))
