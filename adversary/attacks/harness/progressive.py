"""Decoders with a bounded number of parameters for any activation and image; `build_decoder` chooses by shape."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from adversary.attacks.harness.decoders import DenseDecoder, LocalDecoder, fit_sides, subpixel, upsampling
from wireleak.common.targets.memory import DECODER_PARAMETERS

_RANK_PARAMETERS = 4_000_000
_LAST_FACTORS = (4, 2, 1)
_WIDEST, _NARROWEST = 128, 32
# Of one example in one hidden layer.
_MOST_VALUES = 2**20
_SEED_CHANNELS, _SEED_FACTOR = 64, 32
# Tokens in front of the picture's: a class token, one of distillation, four registers.
_EXTRA_TOKENS = (0, 1, 2, 5)
_GLOBAL = 64


def build_decoder(
    activation: tuple[int, ...], image: tuple[int, ...], width: float, mean: Tensor, dropout: float = 0.0
) -> nn.Module:
    """Build a network (n, *activation) -> (n, *image) that starts from the mean image.

    Tokens are put on their grid. An activation with at least a quarter of the image's sides is decoded in place, other
    small problems by a dense network, and large ones progressively.

    Parameters
    ----------
    activation, image : tuple of int
        Shapes of one example, channels first; tokens are (tokens, channels).
    width : float
        Multiplies the hidden units.
    mean : torch.Tensor
        The mean image.
    dropout : float
        Dropout of a dense decoder's hidden units.
    """
    if token_grid(activation, image) is not None:
        return TokenDecoder(activation, image, width, mean)
    factor = upsampling(activation, image)
    if factor is not None:
        with torch.device("meta"):
            size = parameters(LocalDecoder(activation, image, factor, width, mean.to("meta")))
        if size <= DECODER_PARAMETERS:
            return LocalDecoder(activation, image, factor, width, mean)
    inputs, hidden, outputs = math.prod(activation), max(8, round(256 * width)), math.prod(image)
    if (inputs + hidden) * (hidden + outputs) <= DECODER_PARAMETERS:
        return DenseDecoder(activation, image, width, mean, dropout)
    if len(activation) == len(image) and len(image) in (2, 3) and min(activation[1:]) > 1:
        return ProgressiveDecoder(activation, image, width, mean)
    if len(image) in (2, 3):
        return SeedDecoder(activation, image, width, mean, dropout)
    return DenseDecoder(activation, image, width, mean, dropout, rank=_rank(inputs, hidden))


def is_careful(network: nn.Module) -> bool:
    """Return whether a decoder needs smaller steps than plain convolutions do."""
    return isinstance(network, DenseDecoder | ProgressiveDecoder | SeedDecoder | TokenDecoder)


def parameters(network: nn.Module) -> int:
    """Return the number of a network's parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def footprint(activation: tuple[int, ...], image: tuple[int, ...], width: float) -> tuple[int, int]:
    """Return a decoder's parameters, and the values that one example leaves in its layers, without allocating them."""
    hidden = 0

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal hidden
        hidden += output.numel()

    with torch.device("meta"):
        decoder = build_decoder(activation, image, width, torch.empty(image))
        for module in decoder.modules():
            module.register_forward_hook(count)
        decoder(torch.empty(1, *activation))
    return parameters(decoder), hidden


class ProgressiveDecoder(nn.Module):
    """Convolutions that double the sides until a sub-pixel step of at most 4 gives the image's, and a linear path.

    Parameters
    ----------
    activation, image : tuple of int
        Shapes of one example, (channels, length) or (channels, height, width).
    width : float
        Multiplies the hidden channels, which fall from 128 to 32.
    mean : torch.Tensor
        The mean image; learning starts from it.
    """

    def __init__(self, activation: tuple[int, ...], image: tuple[int, ...], width: float, mean: Tensor) -> None:
        super().__init__()
        convolution: Any = (nn.Conv1d, nn.Conv2d)[len(image) - 2]
        goal, axes = image[1:], len(image) - 1
        self.factor = next(
            (f for f in _LAST_FACTORS if all(-(-g // f) >= s for g, s in zip(goal, activation[1:], strict=True))), 1
        )
        coarse = tuple(-(-side // self.factor) for side in goal)
        self.sides = [tuple(min(side, last) for side, last in zip(activation[1:], coarse, strict=True))]
        while self.sides[-1] != coarse:
            self.sides.append(tuple(min(2 * side, last) for side, last in zip(self.sides[-1], coarse, strict=True)))
        channels = [
            max(8, min(round(max(_NARROWEST, _WIDEST / 2 ** (k / 2)) * width), _MOST_VALUES // math.prod(sides)))
            for k, sides in enumerate(self.sides)
        ]
        self.stem = convolution(activation[0], channels[0], 1)
        self.stages = nn.ModuleList(
            convolution(have, want, 3, padding=1) for have, want in itertools.pairwise([channels[0], *channels])
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, count) for count in channels)
        self.outer = convolution(channels[-1], image[0] * self.factor**axes, 3, padding=1)
        self.linear = convolution(activation[0], image[0] * max(_LAST_FACTORS) ** axes, 1)
        self.mean = nn.Parameter(mean.clone())
        self.mode = ("linear", "bilinear")[axes - 1]
        for layer in (self.outer, self.linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, activation: Tensor) -> Tensor:
        """Map (n, *activation) to (n, *image)."""
        maps = self.stem(activation)
        for sides, stage, norm in zip(self.sides, self.stages, self.norms, strict=True):
            if tuple(maps.shape[2:]) != sides:
                maps = nn.functional.interpolate(maps, sides)
            maps = nn.functional.gelu(norm(stage(maps)))
        fine = fit_sides(subpixel(self.outer(maps), self.factor), self.mean.shape[1:])
        # What is linear in the activation keeps its scale, which normalisation takes from the other path.
        cells = subpixel(self.linear(activation), max(_LAST_FACTORS))
        if cells.shape[2:] != self.mean.shape[1:]:
            cells = nn.functional.interpolate(cells, self.mean.shape[1:], mode=self.mode, align_corners=False)
        picture: Tensor = fine + cells + self.mean
        return picture


class SeedDecoder(nn.Module):
    """A low-rank first layer for a flat activation, a residual perceptron to a coarse map, and convolutions from there.

    Parameters are those of `ProgressiveDecoder`, and `dropout`, the dropout of the hidden units.
    """

    def __init__(
        self, activation: tuple[int, ...], image: tuple[int, ...], width: float, mean: Tensor, dropout: float
    ) -> None:
        super().__init__()
        inputs, hidden = math.prod(activation), max(8, round(256 * width))
        rank = _rank(inputs, hidden)
        self.seed = (_SEED_CHANNELS, *(max(2, -(-side // _SEED_FACTOR)) for side in image[1:]))
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(inputs, rank))
        self.hidden = nn.Sequential(nn.Linear(rank, hidden), nn.GELU(), nn.Dropout(dropout))
        self.residual = nn.Sequential(
            nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, hidden)
        )
        self.last = nn.Linear(hidden, math.prod(self.seed))
        self.linear = nn.Linear(rank, math.prod(self.seed), bias=False)
        self.progressive = ProgressiveDecoder(self.seed, image, width, mean)

    def forward(self, activation: Tensor) -> Tensor:
        """Map (n, *activation) to (n, *image)."""
        code = self.first(activation)
        hidden = self.hidden(code)
        hidden = nn.functional.gelu(hidden + self.residual(hidden))
        picture: Tensor = self.progressive((self.last(hidden) + self.linear(code)).view(-1, *self.seed))
        return picture


class TokenDecoder(nn.Module):
    """Tokens back on their grid, with the tokens in front of them as a global vector, then a decoder of pictures.

    Parameters are those of `ProgressiveDecoder`; the activation is (tokens, channels).
    """

    def __init__(self, activation: tuple[int, ...], image: tuple[int, ...], width: float, mean: Tensor) -> None:
        super().__init__()
        grid = token_grid(activation, image)
        assert grid is not None
        self.grid, self.extra = grid, activation[0] - math.prod(grid)
        self.shared = nn.Linear(self.extra * activation[1], _GLOBAL) if self.extra else None
        channels = activation[1] + (_GLOBAL if self.extra else 0)
        self.picture = build_decoder((channels, *grid), image, width, mean)

    def forward(self, activation: Tensor) -> Tensor:
        """Map (n, tokens, channels) to (n, *image)."""
        maps = activation[:, self.extra :].transpose(1, 2).unflatten(2, self.grid)
        if self.shared is not None:
            vector = self.shared(activation[:, : self.extra].flatten(1))
            maps = torch.cat([maps, vector[:, :, None, None].expand(-1, -1, *self.grid)], 1)
        picture: Tensor = self.picture(maps)
        return picture


def token_grid(activation: tuple[int, ...], image: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the grid (rows, columns) of an image's tokens (tokens, channels), or None if they are none.

    The grid has the image's aspect; up to five tokens in front of it belong to the whole image.
    """
    if len(activation) != 2 or len(image) != 3:
        return None
    for extra in _EXTRA_TOKENS:
        count = activation[0] - extra
        rows = round(math.sqrt(max(count, 0) * image[1] / image[2]))
        if rows > 1 and count % rows == 0 and count > rows and rows * image[2] == count // rows * image[1]:
            return rows, count // rows
    return None


def _rank(inputs: int, hidden: int) -> int:
    return max(8, min(hidden, _RANK_PARAMETERS // inputs))
