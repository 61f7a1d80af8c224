"""The latents post's network: an autoencoder's encoder on the device, a classifier of 32 latents on the service."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

from torch import nn

from wireleak.common.models.networks import register

ENCODER = (700, 500, 300)
HEAD = (600, 500, 300, 100)


@register("latents")
def latents(input_shape: tuple[int, ...], classes: int, width: int = 32) -> nn.Sequential:
    """Perceptron (input)-700-500-300-32-600-500-300-100-(classes), ReLU between; cut 4 sends the 32 latents.

    The post's sizes; "latents-2", "latents-8" and "latents-32" send that many. Its classifier also has a ReLU on the
    logits; we leave that one out: a class whose logit is negative for every example of it gets no gradient and is
    never learnt.
    """
    sides = [math.prod(input_shape), *ENCODER, width, *HEAD]
    blocks = [nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU()) for inputs, outputs in pairwise(sides)]
    blocks[0].insert(0, nn.Flatten())
    return nn.Sequential(*blocks, nn.Linear(HEAD[-1], classes))


for _width in (2, 8, 32):
    register(f"latents-{_width}")(partial(latents, width=_width))
