"""Divide features by their deviation where some hardly vary, as dead channels do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def divisors(deviation: npt.NDArray[Any], rows: int) -> npt.NDArray[np.float32]:
    """Return what standardises features.

    A feature that is constant in the fitting rows may vary in others. Divided by almost nothing, one such value would
    drown all features of its row. So no divisor is less than if one more row had shown a usual deviation there.

    Parameters
    ----------
    deviation : float (...)
        Standard deviation of each feature over the fitting rows.
    rows : int
        Number of fitting rows.

    Returns
    -------
    float32 (...)
        The deviations, or where they are too small the root mean square of all over the square root of `rows`.
    """
    usual = np.sqrt(np.square(deviation, dtype=np.float64).mean()) if deviation.size else 0.0
    least = usual / np.sqrt(max(1, rows)) + 1e-6
    return np.asarray(np.maximum(deviation, least), np.float32)
