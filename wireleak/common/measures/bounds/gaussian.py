"""The exact privacy guarantee of Gaussian noise on a clipped activation.

A message is z clipped to ||z||_2 <= C plus N(0, sigma^2 I). Any two inputs' activations are at most 2C apart, so each
message is mu-GDP with mu = 2C / sigma: local differential privacy for the whole input, and q messages about one input
compose to mu sqrt(q).

References
----------
Balle, Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018, Theorem 8 (the exact curve).
Dong, Roth, Su, "Gaussian Differential Privacy", JRSS B 2022, Corollaries 2.13 and 3.3 (mu, composition).
"""

from __future__ import annotations

import math

NO_SENSITIVITY = "unclipped activations have no sensitivity, hence no epsilon"


def mu_of(clip: float | None, sigma: float, messages: int = 1) -> float:
    """Return mu of `messages` about one input, each clipped to `clip` in Euclidean norm, with noise of `sigma`.

    Raises
    ------
    ValueError
        There is no clip, or a number is out of range.
    """
    if clip is None:
        raise ValueError(f"clip: {NO_SENSITIVITY}; set a clip")
    if not (math.isfinite(clip) and clip > 0 and sigma >= 0 and messages >= 1):
        raise ValueError(f"clip {clip}, sigma {sigma}, messages {messages}: need clip > 0, sigma >= 0, messages >= 1")
    return math.inf if sigma == 0 else 2 * clip / sigma * math.sqrt(messages)


def delta_of(mu: float, epsilon: float) -> float:
    """Return the smallest delta for which mu-GDP is (epsilon, delta)-DP.

    Raises
    ------
    ValueError
        `mu` is negative or NaN, or epsilon is.
    """
    from scipy.special import log_ndtr, ndtr

    if not (mu >= 0 and epsilon >= 0):
        raise ValueError(f"mu {mu}, epsilon {epsilon}: both must be at least 0")
    if mu == 0:
        return 0.0
    if math.isinf(mu):
        return 1.0
    # e^epsilon overflows where the normal tail beside it underflows: multiplied as logarithms.
    tail = math.exp(min(epsilon + float(log_ndtr(-mu / 2 - epsilon / mu)), 0.0))
    return max(float(ndtr(mu / 2 - epsilon / mu)) - tail, 0.0)


def epsilon_of(mu: float, delta: float) -> float:
    """Return the smallest epsilon for which mu-GDP is (epsilon, delta)-DP; infinite where mu is.

    Raises
    ------
    ValueError
        `mu` is negative or NaN, or delta is not between 0 and 1: pure epsilon-DP is out of Gaussian noise's reach.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta: {delta} is not between 0 and 1; Gaussian noise has no epsilon at delta 0")
    if math.isinf(mu):
        return math.inf
    if delta_of(mu, 0.0) <= delta:
        return 0.0
    from scipy.optimize import brentq

    high = 1.0
    while delta_of(mu, high) > delta:
        high *= 2
    return float(brentq(lambda epsilon: delta_of(mu, epsilon) - delta, 0.0, high, xtol=1e-10, rtol=1e-12))
