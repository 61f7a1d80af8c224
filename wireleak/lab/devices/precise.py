"""Group normalisation that onnxruntime computes precisely, for wide activations."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class PreciseGroupNorm(nn.Module):
    """The same function as a GroupNorm, with each mean taken one axis after the other.

    torch exports GroupNorm as InstanceNormalization, whose float32 sums in onnxruntime lose 4 digits on groups of
    40,000 numbers. Sums along one axis are short and lose none.
    """

    def __init__(self, original: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = original.num_groups, original.eps
        self.weight, self.bias = original.weight, original.bias

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, channels, ...)."""
        # `len(x)` would fix the batch's size in the exported graph.
        parts = x.reshape(x.shape[0], self.groups, x.shape[1] // self.groups, *x.shape[2:])
        centred = parts - _mean(parts)
        normal: Tensor = (centred / torch.sqrt(_mean(centred * centred) + self.eps)).flatten(1, 2)
        if self.weight is None:
            return normal
        shape = (-1, *[1] * (x.dim() - 2))
        return normal * self.weight.view(shape) + self.bias.view(shape)


def precise(encoder: nn.Module) -> nn.Module | None:
    """Return a copy with `PreciseGroupNorm` in place of each GroupNorm, or None where there is none."""
    changed = copy.deepcopy(encoder)
    places = [name for name, module in changed.named_modules() if isinstance(module, nn.GroupNorm) and name]
    for name in places:
        parent, _, own = name.rpartition(".")
        original = changed.get_submodule(name)
        assert isinstance(original, nn.GroupNorm)
        setattr(changed.get_submodule(parent), own, PreciseGroupNorm(original))
    return changed if places else None


def _mean(parts: Tensor) -> Tensor:
    """Mean of (n, groups, ...) over all axes but the first two, which are kept with length 1."""
    for axis in range(parts.dim() - 1, 1, -1):
        parts = parts.mean(axis, keepdim=True)
    return parts
