"""Several comparisons at once: p-values, and Holm's correction for their number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LEVEL = 0.05


def p_value(mean: float, error: float, freedom: int | None = None) -> float:
    """Return the two-sided p-value of a mean against zero, by its standard error; NaN where that is not known.

    Parameters
    ----------
    mean, error : float
    freedom : int, optional
        Degrees of freedom of Student's t; by default the normal distribution.
    """
    # Slow to import, which no device should pay for.
    from scipy.special import ndtr, stdtr

    if math.isnan(mean) or math.isnan(error):
        return math.nan
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    ratio = -abs(mean / error)
    return float(2 * (ndtr(ratio) if freedom is None else stdtr(freedom, ratio)))


def resolved(p_values: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Return which of several differences from zero are shown at a family-wise `level`.

    References
    ----------
    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    values = np.nan_to_num(np.asarray(p_values, np.float64), nan=1.0)
    order = np.argsort(values, kind="stable")
    passed = values[order] <= level / np.arange(len(values), 0, -1)
    # The first that fails ends the list.
    shown = np.zeros(len(values), bool)
    shown[order] = np.logical_and.accumulate(passed)
    return [bool(one) for one in shown]
