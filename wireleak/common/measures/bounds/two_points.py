"""Audit noise by messages of two known activations, or of two known inputs without an encoder.

One activation lies beyond the clip, the other inside; after the clip they are `shift` apart along one number. Noise of
a given spread allows no test a mean error below a bound, its trade-off function at equal rates: Phi(-shift / 2 sigma)
for Gaussian noise, exp(-shift / 2b) / 2 for Laplace noise. Fewer errors than that refute the noise, or the clip.

The shift is the diameter of the clip where errors are then frequent. Otherwise it is shorter: noise that promises an
epsilon of 64 errs once in 10^14 times at the diameter, so a test there would have no power. The bound holds at any
shift, and epsilon follows from the spread, so half of the noise is refuted at any epsilon.

References
----------
Dong, Roth, Su, "Gaussian Differential Privacy", JRSS B 2022 (trade-off functions).
Nasr et al., "Tight Auditing of Differentially Private Machine Learning", USENIX Security 2023 (inverting them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.bounds import gaussian, laplace
from wireleak.common.measures.bounds.auditing import proportion_limits

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

# In spreads of the noise: here the share of errors depends most on the spread, for the number of messages needed.
BEST_SHIFT = {1: 3.0, 2: 2.5}
# A study audits many settings, and a false alarm in any of them would be a false accusation.
CONFIDENCE = 0.999


class Randomness(Protocol):
    """What an audit must know of a device's randomness; `Noise` and `randomised_response.Response` are such."""

    def __hash__(self) -> int:
        """Let results be cached."""

    @property
    def spread(self) -> float:
        """Return how much of it is promised."""

    def pair(self) -> tuple[float, float]:
        """Return the number that two tensors hold in one place; their others are 0."""

    def error(self, factor: float = 1.0) -> float:
        """Return the least mean error of a test, if there is `factor` times the spread."""

    def spread_at(self, error: float) -> float:
        """Return the spread at which a mean error is the least possible."""

    def epsilon(self, spread: float, delta: float) -> float:
        """Return the epsilon of a message with another spread."""


@dataclass(frozen=True)
class Noise:
    """Noise after a clip.

    Parameters
    ----------
    norm : int
        2: Gaussian noise after a clip in Euclidean norm; 1: Laplace noise after one in L1 norm.
    spread : float
        Sigma, or the Laplace scale b.
    clip : float
    """

    norm: int
    spread: float
    clip: float

    @property
    def shift(self) -> float:
        """How far apart the two activations of an audit are, after the clip."""
        return min(2 * self.clip, BEST_SHIFT[self.norm] * self.spread)

    def pair(self) -> tuple[float, float]:
        """Return the number that the two activations hold, the first beyond the clip; their others are 0."""
        return 10 * self.clip, self.clip - self.shift

    def error(self, factor: float = 1.0) -> float:
        """Return the least mean error of a test, if the noise has `factor` times its spread."""
        half = self.shift / 2 / (factor * self.spread)
        if self.norm == 1:
            return math.exp(-half) / 2
        from scipy.special import ndtr

        return float(ndtr(-half))

    def spread_at(self, error: float) -> float:
        """Return the spread at which a mean error is the least possible; infinite for that of a coin."""
        if error >= 0.5:
            return math.inf
        if error <= 0:
            return 0.0
        if self.norm == 1:
            return -self.shift / 2 / math.log(2 * error)
        from scipy.special import ndtri

        return float(-self.shift / 2 / ndtri(error))

    def epsilon(self, spread: float, delta: float) -> float:
        """Return the epsilon of a message with noise of another spread; Laplace noise needs no delta."""
        if math.isinf(spread):
            return 0.0
        if self.norm == 1:
            return laplace.epsilon_of(self.clip, spread)
        return gaussian.epsilon_of(gaussian.mu_of(self.clip, spread), delta)


@dataclass(frozen=True)
class TwoPointAudit:
    """What messages of two known activations say about the noise.

    Attributes
    ----------
    errors, messages : int
        Errors of the test among its messages; other messages chose its threshold.
    allowed : float
        Least share of errors that the promised noise allows.
    lower, promised : float
        Epsilon of a message: the lower bound that the errors prove, and the promised one.
    smallest_fault : float
        Noise of this multiple of the promised spread would be refuted with probability .95; 0: not even no noise.
    """

    errors: int
    messages: int
    allowed: float
    lower: float
    promised: float
    smallest_fault: float

    @property
    def holds(self) -> bool:
        """Whether the errors are compatible with the promised noise."""
        return proportion_limits(self.errors, self.messages, CONFIDENCE)[1] >= self.allowed


def audit(noise: Randomness, errors: int, messages: int, delta: float = 1e-5) -> TwoPointAudit:
    """Audit noise by the errors of a test, one-sided at 99.9 %.

    Parameters
    ----------
    noise : Noise or Response
    errors, messages : int
        Of a test whose threshold was chosen on other messages; each message holds either activation with equal chance.
    delta : float
        For which epsilon is given, with Gaussian noise.
    """
    _, high = proportion_limits(errors, messages, CONFIDENCE)
    lower = noise.epsilon(noise.spread_at(high), delta)
    promised = noise.epsilon(noise.spread, delta)
    return TwoPointAudit(errors, messages, noise.error(), lower, promised, smallest_fault(noise, messages))


@cache
def smallest_fault(noise: Randomness, messages: int, power: float = 0.95) -> float:
    """Return the largest multiple of the spread that an audit would refute with probability `power`; 0 if none.

    The number of errors is binomial, so no simulation is needed.
    """
    from scipy.optimize import brentq
    from scipy.stats import binom

    # The most errors that still refute the noise.
    few, many = -1, messages
    while many - few > 1:
        middle = (few + many) // 2
        refutes = proportion_limits(middle, messages, CONFIDENCE)[1] < noise.error()
        few, many = (middle, many) if refutes else (few, middle)
    if few < 0:
        return 0.0

    def missing(factor: float) -> float:
        return power - float(binom.cdf(few, messages, noise.error(factor)))

    least = 1e-6
    return 0.0 if missing(least) > 0 else float(brentq(missing, least, 1.0, xtol=1e-6))


def threshold(values: Floats, first: Bools) -> float:
    """Return the threshold with the fewest errors on these messages: at or above it the first activation is guessed.

    Of several, the one in the middle.
    """
    order = np.argsort(values, kind="stable")
    sent, ordered = first[order], values[order]
    # Errors if the threshold lies before message i: the first activations below it, and the second ones from it on.
    below = np.concatenate([[0], np.cumsum(sent)])
    above = np.concatenate([[0], np.cumsum(~sent)])
    errors = below + (above[-1] - above)
    # No threshold divides equal values.
    errors[1:-1][ordered[1:] == ordered[:-1]] = len(values) + 1
    best = np.flatnonzero(errors == errors.min())
    edges = np.concatenate([[-np.inf], (ordered[1:] + ordered[:-1]) / 2, [np.inf]])
    return float(edges[best[len(best) // 2]])


def count_errors(values: Floats, first: Bools) -> tuple[int, int]:
    """Choose a threshold on a quarter of the messages; return the errors on the others, and their number.

    Parameters
    ----------
    values : array (n,)
        The number of each message that tells the two activations apart.
    first : array (n,) of bool
        Whether a message holds the first activation.
    """
    learnt = len(values) // 4
    guesses = values[learnt:] >= threshold(values[:learnt], first[:learnt])
    return int((guesses != first[learnt:]).sum()), len(guesses)
