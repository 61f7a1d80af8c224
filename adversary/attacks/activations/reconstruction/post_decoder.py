"""The attacker of "Hacking deep learning: model inversion attack by example" (S. Keydana, RStudio AI blog, 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import shown
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input

_FILTERS = 32
_BATCH = 32
# Sides of the post's four layers for its 105 pixels; other images get the same shares of their side.
_SIDES, _POST = (9, 23, 51, 105), 105


class PostDecoderOptions(BaseModel):
    """Settings of `PostDecoder`."""

    model_config = ConfigDict(extra="forbid")
    epochs: int = Field(100, ge=1, le=10_000, description="Passes over the pairs; 100 in the post.")


@register
class PostDecoder(ActivationAttack):
    """Rebuild a victim's drawing as the Omniglot post does: four transposed convolutions, trained without validation.

    The decoder minimises the mean squared error with Adam (Keras' defaults), 32 pairs at a time in the order in which
    they were sent. The last epoch is kept: nothing is held out, so the decoder overfits. It trains only on the
    attacker's own inputs, without transformed copies. Every layer ends in a ReLU, also the last one, which dies on dark
    backgrounds. Inputs that are mostly dark are therefore trained as negatives, as the post's paper is 1.
    `training-mse` is the last epoch's mean loss, the number that the post prints.

    Layers are 32 of 9x9, 32 of 7x7, 1 of 7x7 and 1 of 5x5 with strides 1, 2, 2, 2 for 105 pixels; for other images
    the kernels follow from the same shares of the side (28 pixels: 2x2, 4x4, 4x4, 2x2, over 2, 6, 14 and 28).
    """

    name = "post-decoder"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER),
        sees=("activation",),
        knows=(Knows.SURROGATE, Knows.QUERIES),
    )
    target = Input
    options = PostDecoderOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Train the decoder on the attacker's pairs.

        Raises
        ------
        ValueError
            The inputs are not images of at least 8x8.
        """
        import torch

        from adversary.attacks.harness.device import best_device

        self._device = best_device()
        own = knowledge.without_copies()
        low, high = knowledge.input_range
        self._range, self._negative = (low, high), bool(np.median(own.inputs) < (low + high) / 2)
        z, x = self._tensor(own.seen), torch.from_numpy(self._flip(own.inputs)).to(self._device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._decoder = decoder(z.shape[1], tuple(x.shape[1:])).to(self._device)
        # Keras' epsilon; the other defaults are the same.
        optimiser = torch.optim.Adam(self._decoder.parameters(), lr=1e-3, eps=1e-7)
        epochs = self.settings.epochs
        total = 0.0
        for _ in shown(range(epochs), "post-decoder: training"):
            total = 0.0
            for start in range(0, len(x), _BATCH):
                pairs = slice(start, start + _BATCH)
                loss = torch.nn.functional.mse_loss(self._decoder(z[pairs]), x[pairs])
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                total += loss.item() * len(x[pairs])
        self.report |= {
            "parameters": sum(weights.numel() for weights in self._decoder.parameters()),
            "pairs": len(x),
            "negative": self._negative,
            "device": str(self._device),
            "measured": {"training-mse": total / len(x)},
        }

    def guess(self, activations: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from activations (n, ...), clipped to the inputs' range."""
        import torch

        with torch.no_grad():
            pieces = [
                self._decoder(self._tensor(activations[i : i + 256])).cpu().numpy()
                for i in range(0, len(activations), 256)
            ]
        return np.clip(self._unflip(np.concatenate(pieces)), *self._range)

    def _flip(self, x: Array) -> Array:
        """Convert from the inputs' polarity to the decoder's, which begins at 0."""
        low, high = self._range
        return np.asarray(high - x if self._negative else x - low, np.float32)

    def _unflip(self, y: Array) -> Array:
        low, high = self._range
        return np.asarray(high - y if self._negative else y + low, np.float32)

    def _tensor(self, seen: Array) -> Any:
        """Return activations as 1x1 maps, (n, floats, 1, 1), unscaled as in the post."""
        import torch

        flat = np.ascontiguousarray(seen.reshape(len(seen), -1, 1, 1), np.float32)
        return torch.from_numpy(flat).to(self._device)


def decoder(floats: int, image: tuple[int, ...]) -> Any:
    """Build the post's network from (n, floats, 1, 1) to (n, *image), where `image` is (channels, height, width).

    Raises
    ------
    ValueError
        `image` has another number of axes, or is smaller than 8x8.
    """
    import torch
    from torch import nn

    if len(image) != 3 or min(image[1:]) < 8:
        raise ValueError(f"attack: post-decoder rebuilds images of at least 8x8 pixels, not inputs of shape {image}")
    channels = (floats, _FILTERS, _FILTERS, image[0], image[0])
    heights, widths = ([1, *(round(side * share / _POST) for share in _SIDES)] for side in image[1:])
    layers: list[nn.Module] = []
    for depth, stride in enumerate((1, 2, 2, 2)):
        kernel = (_kernel(heights, depth, stride), _kernel(widths, depth, stride))
        layer = nn.ConvTranspose2d(channels[depth], channels[depth + 1], kernel, stride)
        nn.init.xavier_uniform_(layer.weight)  # Keras' own first weights
        layer.bias = nn.Parameter(torch.zeros(channels[depth + 1]))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers)


def _kernel(sides: list[int], depth: int, stride: int) -> int:
    """Return the kernel size with which a transposed convolution without padding gets from one side to the next."""
    return sides[depth + 1] - stride * (sides[depth] - 1)
