"""Lower bounds on epsilon from attacks that succeeded: how much a mechanism has already leaked.

A lower bound above the proved epsilon refutes the proof (or its implementation); one below it refutes nothing. An
audit of unclipped activations refuses to give an epsilon, because they have none.

References
----------
Clopper, Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial", Biometrika 1934.
Jagielski, Ullman, Oprea, "Auditing Differentially Private Machine Learning", NeurIPS 2020 (`from_rates`).
Steinke, Nasr, Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023 (`from_one_run`, delta = 0;
`from_canaries`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wireleak.common.measures.bounds import laplace
from wireleak.common.measures.bounds.gaussian import epsilon_of, mu_of


@dataclass(frozen=True)
class Audit:
    """A lower bound from an attack and the proved upper bound, both at `delta`; `holds` unless it is refuted."""

    lower: float
    proved: float
    delta: float
    confidence: float

    @property
    def holds(self) -> bool:
        """Whether the lower bound lies at or below the proved epsilon."""
        return self.lower <= self.proved


def proportion_limits(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson limits of a probability, each one-sided at `confidence`.

    Raises
    ------
    ValueError
        Counts that cannot be, or a confidence outside (0, 1).
    """
    if not (0 <= successes <= trials and trials > 0 and 0 < confidence < 1):
        raise ValueError(
            f"{successes} of {trials} at confidence {confidence}: need 0 <= successes <= trials, trials > 0"
        )
    from scipy.special import betaincinv

    missed = trials - successes
    low = 0.0 if successes == 0 else float(betaincinv(successes, missed + 1, 1 - confidence))
    high = 1.0 if missed == 0 else float(betaincinv(successes + 1, missed, confidence))
    return low, high


def from_rates(
    true_positives: int,
    positives: int,
    false_positives: int,
    negatives: int,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> float:
    """Return the lower bound on epsilon of a test that distinguishes two inputs: log((TPR_low - delta) / FPR_high).

    Each of the two limits holds at `confidence`, hence both together at 2 confidence - 1 or more. The test's threshold
    must have been fixed on other runs than these.
    """
    low, _ = proportion_limits(true_positives, positives, confidence)
    _, high = proportion_limits(false_positives, negatives, confidence)
    return max(0.0, math.log((low - delta) / high)) if low > delta else 0.0


def from_one_run(correct: int, guesses: int, confidence: float = 0.95) -> float:
    """Return the lower bound on epsilon, delta = 0, of independent fair bits guessed in one run.

    Under epsilon-DP the count of correct guesses is dominated by Binomial(guesses, e^epsilon / (1 + e^epsilon)), which
    is inverted. `from_canaries` is for delta > 0 and guesses about some of the bits.
    """
    return from_messages(correct, guesses, 2, 0.0, confidence)


def from_canaries(correct: int, guesses: int, canaries: int, delta: float, confidence: float = 0.95) -> float:
    """Return the lower bound on epsilon at `delta` of a training, from guesses which canaries it used.

    A fair coin decided of each canary whether it was used. Of W, Binomial(guesses, e^epsilon / (1 + e^epsilon)), the
    chance of so many correct guesses is at most P(W >= correct) + 2 canaries delta max_i P(correct - i <= W < correct)
    / i. That is inverted at `confidence`.

    Parameters
    ----------
    correct, guesses, canaries : int
        How many guesses are right, of how many, about how many canaries; their number was fixed before.
    delta : float
    confidence : float

    Raises
    ------
    ValueError
        Counts that cannot be, or a confidence or delta out of range.

    References
    ----------
    Steinke, Nasr, Jagielski, NeurIPS 2023, theorem 5.2 and appendix D.
    """
    if not (0 <= correct <= guesses <= canaries and guesses > 0 and 0 <= delta < 1 and 0 < confidence < 1):
        raise ValueError(
            f"{correct} of {guesses} guesses about {canaries} canaries, delta {delta}, confidence {confidence}: need "
            "0 <= correct <= guesses <= canaries, guesses > 0, 0 <= delta < 1, 0 < confidence < 1"
        )
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import expit
    from scipy.stats import binom

    fewer = np.arange(1, correct + 1)

    def chance(epsilon: float) -> float:
        law = binom(guesses, expit(epsilon))
        beyond = law.sf(correct - 1)
        below = law.sf(correct - 1 - fewer) - beyond
        return float(beyond + 2 * canaries * delta * (below / fewer).max(initial=0.0))

    if chance(0.0) >= 1 - confidence:
        return 0.0
    high = 1.0
    while chance(high) < 1 - confidence:
        high *= 2
    return float(brentq(lambda epsilon: chance(epsilon) - (1 - confidence), 0.0, high, xtol=1e-9))


def from_messages(correct: int, guesses: int, candidates: int, delta: float = 0.0, confidence: float = 0.95) -> float:
    """Return the lower bound on epsilon of local DP from inputs named by the messages that carry them.

    Each message holds one of `candidates` inputs, all equally likely, and each guess uses only its own message.
    Summing P(i|i) <= e^epsilon P(i|j) + delta over all i != j gives, for the rate p of correct guesses,
    p <= e^epsilon (1 - p) / (candidates - 1) + delta, which is inverted at the lower limit of p.

    Raises
    ------
    ValueError
        As for `proportion_limits`; fewer than two candidates.
    """
    if candidates < 2:
        raise ValueError(f"candidates: {candidates} is too few; give at least 2")
    low, _ = proportion_limits(correct, guesses, confidence)
    return max(0.0, math.log((low - delta) * (candidates - 1) / (1 - low))) if low > delta else 0.0


def audit_messages(
    correct: int,
    guesses: int,
    candidates: int,
    *,
    clip: float | None,
    sigma: float | None = None,
    scale: float | None = None,
    delta: float = 1e-5,
    confidence: float = 0.95,
) -> Audit:
    """Audit clipped and noised messages by an attack that names the inputs they carry, as in `from_messages`.

    Parameters
    ----------
    clip, sigma, scale : float
        Of the noise: Gaussian of `sigma` after a clip in Euclidean norm, or Laplace of `scale` after one in L1 norm,
        whose proved epsilon needs no delta.

    Raises
    ------
    ValueError
        There is no clip: no epsilon is named. Neither or both of sigma and scale are given.
    """
    if sigma is not None and scale is None:
        proved = epsilon_of(mu_of(clip, sigma), delta)
    elif scale is not None and sigma is None:
        proved = laplace.epsilon_of(clip, scale)
    else:
        raise ValueError("sigma: give either sigma (Gaussian noise) or scale (Laplace noise)")
    return Audit(from_messages(correct, guesses, candidates, delta, confidence), proved, delta, confidence)
