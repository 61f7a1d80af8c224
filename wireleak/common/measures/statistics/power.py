"""The smallest effect that a test shows with a wanted probability, from the width of its interval."""

from __future__ import annotations

import math

POWER = 0.8


def detectable(half: float, seeds: int = 1, power: float = POWER) -> float:
    """Return the difference that a 95 % interval of this half width excludes zero for, with probability `power`.

    Parameters
    ----------
    half : float
        Half of the interval's width: of Student's t over `seeds`, or of a bootstrap where there is one seed.
    seeds : int
        Values behind the interval.
    power : float
        Wanted probability.

    Returns
    -------
    float
        NaN without an interval.
    """
    # Slow to import, which no device should pay for.
    from scipy.special import nctdtrinc, ndtri, stdtrit

    if math.isnan(half):
        return math.nan
    if seeds < 2:
        return float(half * (1 + ndtri(power) / ndtri(0.975)))
    edge = stdtrit(seeds - 1, 0.975)
    return float(half * nctdtrinc(seeds - 1, 1 - power, edge) / edge)
