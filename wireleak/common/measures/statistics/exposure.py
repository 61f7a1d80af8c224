"""Exposure: how many bits likelier a planted secret is to a generative model than a secret that it never saw.

References
----------
Carlini, Liu, Erlingsson, Kos, Song, "The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural
Networks", USENIX Security 2019; as in tensorflow/privacy, `secret_sharer/exposures.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def by_rank(secret: float, candidates: npt.ArrayLike) -> float:
    """Exposure among all secrets there could have been: log2 |R| - log2 rank.

    Parameters
    ----------
    secret : float
        Log-perplexity, in bits: minus the sum of the log2 probabilities of its symbols.
    candidates : array of shape (|R|,)
        That of every secret in R, the planted one among them. Ties rank before the secret: against the attacker.

    Returns
    -------
    float
        Bits, from 0 to log2 |R|; 1.44 on average for a secret that the model never saw.

    Raises
    ------
    ValueError
        There are no candidates, or a value is not finite.
    """
    _finite([secret])
    found = _finite(candidates)
    rank = max(1, int((found <= secret).sum()))
    return math.log2(len(found)) - math.log2(rank)


def by_extrapolation(secret: float, sampled: npt.ArrayLike) -> float:
    """Exposure where R is too large to list: -log2 of the skew-normal's mass below the secret's log-perplexity.

    Parameters
    ----------
    secret : float
        Log-perplexity, in bits.
    sampled : array of shape (n,)
        Those of secrets that were drawn from R and never planted, to which the distribution is fitted.

    Raises
    ------
    ValueError
        Fewer than ten samples, or a value is not finite.
    """
    return extrapolation(sampled)(secret)


def extrapolation(sampled: npt.ArrayLike) -> Callable[[float], float]:
    """The same for many secrets: from a secret's log-perplexity to its exposure, by a distribution fitted once."""
    from scipy.stats import skewnorm

    found = _finite(sampled)
    if len(found) < 10:
        raise ValueError(f"exposure: {len(found)} sampled secrets are too few to fit a distribution; draw 10 or more")
    centre, spread = found.mean(), found.std()
    if not spread:
        # All are equally likely: a secret that ties with all others is not exposed.
        return lambda secret: 0.0 if secret >= centre else math.inf
    # The fit starts at the origin, far from these; it is told where to look.
    fitted = skewnorm.fit((found - centre) / spread)

    def exposure(secret: float) -> float:
        _finite([secret])
        below = float(skewnorm.logcdf((secret - centre) / spread, *fitted))
        return max(0.0, -below / math.log(2))

    return exposure


def _finite(perplexities: npt.ArrayLike) -> Doubles:
    found = np.asarray(perplexities, np.float64)
    if not found.size or not np.isfinite(found).all():
        raise ValueError("exposure: perplexities must be finite, and candidates must hold at least one")
    return found
