"""Reconstruction robustness: an attacker's largest success rate, given its success rate without the message.

The attacker hits with probability kappa by the prior only (one of m equally likely inputs: kappa = 1/m), and sees one
message of a mechanism. It guesses each message by itself: an attacker that also knows that no two messages hold the
same input is not covered.

References
----------
Balle, Cherubin, Hayes, "Reconstructing Training Data with Informed Adversaries", S&P 2022 (ReRo; kappa e^epsilon).
Hayes, Mahloujifar, Balle, "Bounding Training Data Reconstruction in DP-SGD", NeurIPS 2023 (by the trade-off curve).
"""

from __future__ import annotations

import math

from wireleak.common.measures.bounds.gaussian import mu_of


def success_under_mu(prior: float, mu: float) -> float:
    """Return the most that any attacker's success can be under mu-GDP: Phi(Phi^-1(prior) + mu).

    Parameters
    ----------
    prior : float
        Success without the message, kappa, in [0, 1].
    mu : float
        Of the mechanism, e.g. `gaussian.mu_of`; infinite for none.

    Raises
    ------
    ValueError
        `prior` is no probability, or `mu` is negative.
    """
    from scipy.special import ndtr, ndtri

    _check(prior, mu)
    if prior in (0.0, 1.0):
        return prior
    return float(ndtr(ndtri(prior) + mu))


def success_under_epsilon(prior: float, epsilon: float, delta: float = 0.0) -> float:
    """Return the most that any attacker's success can be under (epsilon, delta)-DP: prior e^epsilon + delta.

    Raises
    ------
    ValueError
        `prior` or `delta` is no probability, or `epsilon` is negative.
    """
    _check(prior, epsilon)
    _check(delta, epsilon)
    if prior == 0:
        return delta
    return 1.0 if epsilon >= -math.log(prior) else min(1.0, prior * math.exp(epsilon) + delta)


def success_among_candidates(prior: float, epsilon: float) -> float:
    """Return the most that naming one of equally likely inputs can succeed under epsilon-DP, delta = 0.

    prior e^epsilon / (1 - prior + prior e^epsilon), for `prior` = 1/m of m inputs: randomised response attains it. A
    guess names one input, so that the m chances of naming each sum to one, which `success_under_epsilon` does not use.

    Raises
    ------
    ValueError
        `prior` is no probability, or `epsilon` is negative.
    """
    from scipy.special import expit, logit

    _check(prior, epsilon)
    return prior if prior in (0.0, 1.0) else float(expit(logit(prior) + epsilon))


def success_within_ball(prior: float, clip: float | None, sigma: float) -> float:
    """Return the most that any attacker's success can be on one message, clipped to `clip`, with noise of `sigma`.

    Phi(Phi^-1(prior) + clip / sigma): every message is compared with noise alone, the ball's centre, from which no
    activation is further than the clip. Two opposite activations attain it; mu = 2 clip / sigma, which compares any
    two inputs, is twice as far.

    Raises
    ------
    ValueError
        There is no clip; else as for `success_under_mu`.
    """
    return success_under_mu(prior, mu_of(clip, sigma) / 2)


def _check(probability: float, strength: float) -> None:
    if not (0 <= probability <= 1 and strength >= 0):
        raise ValueError(
            f"probability {probability} must lie in [0, 1], and mu or epsilon {strength} must be at least 0"
        )
