"""Decoders of transposed convolutions, as He et al. build them."""

from __future__ import annotations

from typing import Any

import numpy as np


def transposed_decoder(activation: tuple[int, ...], image: tuple[int, ...]) -> Any:
    """Build a decoder from one activation's shape to one input's, both channels first.

    Parameters
    ----------
    activation, image : tuple of int
        (channels, length), (channels, height, width), or anything else: then the decoder of `build_decoder`.
    """
    import torch
    from torch import nn

    from adversary.attacks.harness.decoders import fit_sides
    from adversary.attacks.harness.progressive import build_decoder

    channels, axes = activation[0], len(image) - 1
    doublings = {round(np.log2(want / have)) for want, have in zip(image[1:], activation[1:], strict=False)}
    if len(activation) != len(image) or axes not in (1, 2) or not doublings <= {0, 1, 2} or len(doublings) > 1:
        return build_decoder(activation, image, 1.0, torch.zeros(image))
    up = (nn.ConvTranspose1d, nn.ConvTranspose2d)[axes - 1]
    if all(2 * (have + 4) + 4 == want for want, have in zip(image[1:], activation[1:], strict=True)):
        middle = max(8, channels // 2)
        last = up(middle, image[0], 5, stride=2, output_padding=1)
        return nn.Sequential(up(channels, middle, 5), nn.ReLU(), last)

    class Sides(nn.Module):
        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return fit_sides(picture, torch.Size(image[1:]))

    layers: list[Any] = []
    times = doublings.pop()
    for _ in range(times):
        middle = max(8, channels // 2)
        layers += [up(channels, middle, 3, stride=2, padding=1, output_padding=1), nn.ReLU()]
        channels = middle
    # Without padding a kernel of k adds k - 1, which undoes the valid convolution that removed the border.
    grows = image[1] - activation[1] * 2**times
    unpadded = 2 <= grows <= 8
    layers.append(up(channels, image[0], grows + 1 if unpadded else 3, padding=0 if unpadded else 1))
    return nn.Sequential(*layers, Sides())
