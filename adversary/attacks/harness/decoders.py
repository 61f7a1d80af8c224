"""Networks from an activation back to the input, derived only from the two shapes.

An activation that is still a (coarser) picture is decoded in place by convolutions and sub-pixel upsampling
(Shi et al., CVPR 2016). A narrow or flat one is decoded by a residual perceptron. Both add a linear path, so that the
other path need not learn the linear part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_LARGEST_FACTOR = 4
# Of the linear path's least squares: weights of one output value, values of the equations' matrix (128 MiB), and ridge
# strength on standardised activations.
_MOST_WEIGHTS, _MOST_VALUES, _STRENGTH = 1024, 2**24, 1e-3


def upsampling(activation: tuple[int, ...], image: tuple[int, ...]) -> int | None:
    """Return the factor from every spatial side of the activation to the image's, or None if none fits.

    A side may come out too long or too short by up to one factor, because of a convolution's border.
    """
    if len(activation) != len(image) or len(activation) not in (2, 3):
        return None
    factor = max(1, round(image[1] / activation[1]))
    near = all(abs(side * factor - goal) <= factor for side, goal in zip(activation[1:], image[1:], strict=True))
    return factor if near and factor <= _LARGEST_FACTOR else None


class LocalDecoder(nn.Module):
    """Convolutions at the activation's resolution, then one sub-pixel step to the image's.

    Parameters
    ----------
    activation, image : tuple of int
        Shapes of one example, (channels, length) or (channels, height, width).
    factor : int
        Upsampling, see `upsampling`.
    width : float
        Multiplies the hidden channels.
    mean : torch.Tensor
        The mean image; learning starts from it.
    """

    def __init__(
        self, activation: tuple[int, ...], image: tuple[int, ...], factor: int, width: float, mean: Tensor
    ) -> None:
        super().__init__()
        convolution = (nn.Conv1d, nn.Conv2d)[len(image) - 2]
        cells = factor ** (len(image) - 1)
        hidden = max(8, round(max(32, 8 * cells) * width))
        self.inner = convolution(activation[0], hidden, 3, padding=1)
        self.style = nn.Linear(hidden, 2 * hidden)
        self.outer = convolution(hidden, image[0] * cells, 3, padding=1)
        self.linear = convolution(activation[0], image[0] * cells, 3, padding=1)
        self.mean = nn.Parameter(mean.clone())
        self.factor = factor
        nn.init.zeros_(self.style.weight)
        nn.init.zeros_(self.style.bias)

    def linear_pairs(self, activation: Sequence[int]) -> int:
        """Return how many pairs `start_linear` uses at most; every place of each counts."""
        return max(1, _MOST_VALUES // (self.linear.weight[0].numel() * math.prod(activation[1:])))

    def start_linear(self, activations: Tensor, inputs: Tensor) -> bool:
        """Set the linear path to its least squares on pairs, and the other path to 0: few steps then learn the rest.

        Parameters
        ----------
        activations, inputs : torch.Tensor
            (n, *activation) and (n, *image); the first `linear_pairs` are used.

        Returns
        -------
        bool
            False, and nothing changes, where the path has too many weights.
        """
        weight = self.linear.weight
        width = weight[0].numel()
        if width > _MOST_WEIGHTS:
            return False
        some = self.linear_pairs(activations.shape[1:])
        activations, inputs = activations[:some], inputs[:some]
        flat = activations if activations.dim() == 4 else activations[:, :, None]
        kernel = tuple(weight.shape[2:]) if activations.dim() == 4 else (1, weight.shape[2])
        near = nn.functional.unfold(flat, kernel, padding=tuple(side // 2 for side in kernel))
        grid = [side * self.factor for side in activations.shape[2:]]
        goal = nn.functional.pad(
            inputs - self.mean, [-pad for pad in _pads(grid, self.mean.shape[1:])], mode="replicate"
        )
        places = near.transpose(1, 2).reshape(-1, width).double()
        places = torch.cat([places, places.new_ones(len(places), 1)], 1)
        wanted = coarse(goal, self.factor).flatten(2).transpose(1, 2).reshape(len(places), -1).double()
        gram = places.T @ places / len(places)
        gram.diagonal().add_(_STRENGTH)
        solved = torch.linalg.solve(gram, places.T @ wanted / len(places)).to(weight.dtype)
        with torch.no_grad():
            for parameter in self.linear.parameters():
                parameter.copy_((solved[:-1].T if parameter is weight else solved[-1]).reshape(parameter.shape))
            for parameter in self.outer.parameters():
                parameter.zero_()
        return True

    def forward(self, activation: Tensor) -> Tensor:
        """Map (n, *activation) to (n, *image)."""
        hidden = self.inner(activation)
        # The encoder's normalisation removed the picture's own scale; the pooled map restores it.
        style = self.style(hidden.flatten(2).mean(2))
        scale, shift = style.view(*style.shape, *[1] * (hidden.dim() - 2)).chunk(2, 1)
        hidden = torch.relu(hidden * (1 + scale) + shift)
        picture = subpixel(self.outer(hidden) + self.linear(activation), self.factor)
        return fit_sides(picture, self.mean.shape[1:]) + self.mean


class DenseDecoder(nn.Module):
    """A residual perceptron plus a linear path, for any activation and any image.

    Parameters are those of `LocalDecoder`, `dropout`, the dropout of the hidden units, and `rank`, the rank of the
    layers that read the activation; by default it is not limited.
    """

    def __init__(
        self,
        activation: tuple[int, ...],
        image: tuple[int, ...],
        width: float,
        mean: Tensor,
        dropout: float,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        inputs, hidden, outputs = math.prod(activation), max(8, round(256 * width)), math.prod(image)
        first = [nn.Linear(inputs, hidden)] if rank is None else [nn.Linear(inputs, rank), nn.Linear(rank, hidden)]
        self.first = nn.Sequential(nn.Flatten(), *first, nn.GELU(), nn.Dropout(dropout))
        self.residual = nn.Sequential(
            nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, hidden)
        )
        self.last = nn.Linear(hidden, outputs)
        last = nn.Linear(rank or inputs, outputs, bias=False)
        self.linear = last if rank is None else nn.Sequential(nn.Linear(inputs, rank, bias=False), last)
        self.image = image
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            self.last.bias.copy_(mean.flatten())

    def forward(self, activation: Tensor) -> Tensor:
        """Map (n, *activation) to (n, *image)."""
        hidden = self.first(activation)
        hidden = torch.nn.functional.gelu(hidden + self.residual(hidden))
        flat: Tensor = self.last(hidden) + self.linear(activation.flatten(1))
        return flat.view(-1, *self.image)


def subpixel(maps: Tensor, factor: int) -> Tensor:
    """Rearrange (n, c * factor**d, ...) to (n, c, ... * factor), for d = 1 or 2 spatial axes."""
    if maps.dim() == 4:
        return nn.functional.pixel_shuffle(maps, factor)
    n, channels, length = maps.shape
    return maps.view(n, channels // factor, factor, length).transpose(2, 3).reshape(n, -1, length * factor)


def coarse(picture: Tensor, factor: int) -> Tensor:
    """Undo `subpixel`."""
    if picture.dim() == 4:
        return nn.functional.pixel_unshuffle(picture, factor)
    n, channels, length = picture.shape
    return picture.reshape(n, channels, length // factor, factor).transpose(2, 3).reshape(n, -1, length // factor)


def fit_sides(picture: Tensor, sides: torch.Size) -> Tensor:
    """Crop or repeat the border evenly until the spatial axes have `sides`."""
    pads = _pads(picture.shape[2:], sides)
    return nn.functional.pad(picture, pads, mode="replicate") if any(pads) else picture


def _pads(have: Sequence[int], want: Sequence[int]) -> list[int]:
    """Return how much to add before and after each axis, the last axis first; negative numbers crop."""
    pads: list[int] = []
    for old, new in zip(reversed(have), reversed(want), strict=True):
        before = (new - old) // 2
        pads += [before, new - old - before]
    return pads
