"""The privacy guarantee of Laplace noise on an activation clipped in L1 norm.

A message is z clipped to ||z||_1 <= C plus Laplace noise of scale b on every number. Any two inputs' activations are at
most 2C apart, so each message is epsilon-DP with epsilon = 2C / b, delta = 0: local differential privacy for the whole
input.

References
----------
Dwork, McSherry, Nissim, Smith, "Calibrating Noise to Sensitivity in Private Data Analysis", TCC 2006.
Kairouz, Oh, Viswanath, "The Composition Theorem for Differential Privacy", ICML 2015, Theorem 3.3 (`composed`).
"""

from __future__ import annotations

import math

import numpy as np

from wireleak.common.measures.bounds.gaussian import NO_SENSITIVITY


def epsilon_of(clip: float | None, scale: float) -> float:
    """Return epsilon of one message clipped to `clip` in L1 norm, with Laplace noise of `scale`.

    Raises
    ------
    ValueError
        There is no clip, or a number is out of range.
    """
    if clip is None:
        raise ValueError(f"clip: {NO_SENSITIVITY}; set a clip")
    if not (math.isfinite(clip) and clip > 0 and scale >= 0):
        raise ValueError(f"clip {clip}, scale {scale}: need clip > 0, scale >= 0")
    return math.inf if scale == 0 else 2 * clip / scale


def composed(epsilon: float, messages: int, delta: float) -> float:
    """Return the smallest epsilon at `delta` of `messages` about one input, each `epsilon`-DP with delta = 0.

    Exact for whatever is epsilon-DP: for one pair of inputs it is at most randomised response, whose privacy loss over
    the messages is epsilon times a binomial walk. At delta = 0 the messages' epsilons add up.

    Raises
    ------
    ValueError
        A number is out of range.
    """
    if not (epsilon >= 0 and math.isfinite(epsilon) and messages >= 1 and 0 <= delta < 1):
        raise ValueError(
            f"epsilon {epsilon}, messages {messages}, delta {delta}: need epsilon >= 0, messages >= 1, 0 <= delta < 1"
        )
    from scipy.optimize import brentq
    from scipy.special import expit
    from scipy.stats import binom

    kept = np.arange(messages + 1)
    loss = (2 * kept - messages) * epsilon
    chance = binom.pmf(kept, messages, expit(epsilon))

    def excess(bound: float) -> float:
        beyond = loss > bound
        return float((chance[beyond] * -np.expm1(bound - loss[beyond])).sum()) - delta

    total = messages * epsilon
    if delta == 0 or total == 0:
        return total
    return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, total, xtol=1e-10, rtol=1e-12))
