"""k-ary randomised response: a value is kept with a fixed chance, and otherwise replaced by one of the others.

With a chance of e^epsilon / (e^epsilon + k - 1) to keep it, no two values make any output more than e^epsilon times
likelier than each other: epsilon-local differential privacy with delta = 0.

References
----------
Warner, "Randomized Response: A Survey Technique for Eliminating Evasive Answer Bias", JASA 1965.
Kairouz, Oh, Viswanath, "Extremal Mechanisms for Local Differential Privacy", JMLR 2016 (k values).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


def kept(epsilon: float, values: int) -> float:
    """Return the chance that a value is kept, of `values` values.

    Raises
    ------
    ValueError
        A number is out of range.
    """
    if not (epsilon >= 0 and values >= 2):
        raise ValueError(f"epsilon {epsilon}, values {values}: need epsilon >= 0 and values >= 2")
    return 1 / (1 + (values - 1) * math.exp(-epsilon))


@dataclass(frozen=True)
class Response:
    """Randomised response as an audit of two known inputs takes it; its spread is the chance of a replacement.

    Parameters
    ----------
    promised : float
        Epsilon of one value.
    values : int
    """

    promised: float
    values: int

    @property
    def spread(self) -> float:
        """Return the chance that a value is replaced."""
        others = self.values - 1
        return others / (others + math.exp(self.promised))

    def pair(self) -> tuple[float, float]:
        """Return the two values of an audit: the last and the first, which a threshold divides."""
        return float(self.values), 1.0

    def error(self, factor: float = 1.0) -> float:
        """Return the least mean error of a test, if values are replaced `factor` times as often.

        A test errs on half of the replacements, and on the few that name the other value.
        """
        replaced = factor * self.spread
        return replaced * self.values / (self.values - 1) / 2

    def spread_at(self, error: float) -> float:
        """Return the chance of a replacement at which a mean error is the least possible; that of a coin at most."""
        return min(2 * max(error, 0.0), 1.0) * (self.values - 1) / self.values

    def epsilon(self, spread: float, delta: float) -> float:
        """Return the epsilon at another chance of a replacement; it needs no delta."""
        if spread <= 0:
            return math.inf
        return max(0.0, math.log((1 - spread) * (self.values - 1) / spread))
