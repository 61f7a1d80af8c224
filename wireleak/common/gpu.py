"""Large matrix products on the GPU, where torch sees one; the same numbers on the CPU."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[Any]
# Multiplications below which the way to the GPU and back costs more than it saves.
_WORTH = 2**27


def gpu() -> Any:
    """Return torch's GPU, or None: torch is not imported for this, as that takes seconds."""
    torch = sys.modules.get("torch")
    return torch.device("cuda") if torch is not None and torch.cuda.is_available() else None


def product(one: Matrix, other: Matrix) -> Matrix:
    """Return `one @ other`, on the GPU where there is one with enough memory."""
    device = gpu() if one.size * other.shape[1] > _WORTH else None
    if device is None:
        return np.asarray(one @ other)
    import torch

    try:
        found: Matrix = (torch.from_numpy(one).to(device) @ torch.from_numpy(other).to(device)).cpu().numpy()
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return np.asarray(one @ other)
    return found
