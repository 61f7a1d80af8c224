"""Clipping: no example's activation is longer than was promised."""

from __future__ import annotations

import torch

# At which noise states its epsilon.
DELTA = 1e-5


def clipped(activation: torch.Tensor, clip: float, norm: int) -> torch.Tensor:
    """Scale each example of (n, ...) down to a length of `clip` or less, in L1 (`norm` 1) or Euclidean norm (2).

    Gradients pass. Numbers that are not finite are made so first: what a broken network sends is bounded too.
    """
    activation = activation.nan_to_num()
    length: torch.Tensor = activation.flatten(1).norm(p=norm, dim=1).clamp_min(torch.finfo(activation.dtype).tiny)
    factor: torch.Tensor = (clip / length).clamp(max=1.0)
    return activation * factor.view(-1, *[1] * (activation.dim() - 1))


def refusal_of(clip: float | None) -> str | None:
    """Why noise without a clip guarantees nothing."""
    if clip is not None:
        return None
    # Imported where it is used: a device that only sends needs no measures.
    from wireleak.common.measures.bounds.gaussian import NO_SENSITIVITY

    return f"no epsilon: {NO_SENSITIVITY}"
