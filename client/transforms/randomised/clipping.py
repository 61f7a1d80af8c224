"""Clipping: bound the length of each example's activation."""

from __future__ import annotations

import torch

# The delta at which noise states its epsilon.
DELTA = 1e-5


def clipped(activation: torch.Tensor, clip: float, norm: int) -> torch.Tensor:
    """Scale each example of (n, ...) down to a length of `clip` or less, in L1 (`norm` 1) or Euclidean norm (2).

    Gradients pass through. Numbers that are not finite are replaced first, so that a broken network is bounded too.
    """
    activation = activation.nan_to_num()
    length: torch.Tensor = activation.flatten(1).norm(p=norm, dim=1).clamp_min(torch.finfo(activation.dtype).tiny)
    factor: torch.Tensor = (clip / length).clamp(max=1.0)
    return activation * factor.view(-1, *[1] * (activation.dim() - 1))


def refusal_of(clip: float | None) -> str | None:
    """Return why noise without a clip guarantees nothing, None if there is a clip."""
    if clip is not None:
        return None
    # Imported late: a device that only sends needs no measures.
    from wireleak.common.measures.bounds.gaussian import NO_SENSITIVITY

    return f"no epsilon: {NO_SENSITIVITY}"
