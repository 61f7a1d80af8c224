"""Acceptance test 13: audits stay under what is proved, come near it where they can, and refuse without a clip."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from wireleak.common.measures.bounds.auditing import (
    audit_messages,
    from_canaries,
    from_messages,
    from_one_run,
    from_rates,
    proportion_limits,
)
from wireleak.common.measures.bounds.gaussian import epsilon_of
from wireleak.common.measures.bounds.reconstruction_robustness import success_under_mu

SEEDS = 200


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (1, 10), (400, 1000), (10, 10)])
def test_limits_are_clopper_pearsons(successes: int, trials: int) -> None:
    oracle = binomtest(successes, trials).proportion_ci(0.9, "exact")  # two-sided 90 %: each limit at 95 %
    assert proportion_limits(successes, trials) == pytest.approx((oracle.low, oracle.high))


def test_published_values() -> None:
    assert from_rates(400, 1000, 10, 1000) == pytest.approx(3.10, abs=0.005)
    assert from_one_run(600, 1000) == pytest.approx(0.297, abs=5e-4)
    assert from_one_run(1000, 1000) == pytest.approx(5.81, abs=0.005)
    assert from_one_run(100, 100) == pytest.approx(3.49, abs=0.005)


def test_canaries_prove_what_steinke_nasr_and_jagielski_print() -> None:
    """Their appendix D and figure 11; the second is cut off and not rounded."""
    assert from_canaries(75, 100, 1000, 1e-4) == pytest.approx(0.673, abs=5e-4)
    assert from_canaries(1439, 1510, 100_000, 1e-5) == pytest.approx(2.675, abs=1e-3)


@pytest.mark.parametrize(("correct", "guesses"), [(60, 100), (100, 100), (50, 100), (0, 100)])
def test_with_delta_0_canaries_prove_what_one_run_does(correct: int, guesses: int) -> None:
    assert from_canaries(correct, guesses, 400, 0.0) == pytest.approx(from_one_run(correct, guesses), abs=1e-6)
    assert from_canaries(correct, guesses, 400, 1e-3) <= from_one_run(correct, guesses)


def test_counts_of_canaries_that_cannot_be() -> None:
    for counts in ((5, 4, 10), (4, 11, 10), (0, 0, 10)):
        with pytest.raises(ValueError, match="0 <= correct <= guesses <= canaries"):
            from_canaries(*counts, 1e-5)


def test_chance_and_less_prove_nothing() -> None:
    assert from_one_run(50, 100) == 0 == from_one_run(0, 100)
    assert from_rates(5, 100, 5, 100) == 0 == from_rates(0, 100, 0, 100)
    assert from_rates(100, 1000, 0, 1000, delta=0.2) == 0
    assert from_messages(1, 100, 100) == 0


def test_randomised_response_attains_epsilon_and_is_seldom_refuted() -> None:
    rng, epsilon, r = np.random.default_rng(0), 1.0, 500
    correct = rng.binomial(r, math.e / (1 + math.e), SEEDS)
    lower = np.array([from_one_run(int(w), r) for w in correct])
    assert (lower <= epsilon).mean() >= 0.93  # exactly 95 % are, of infinitely many seeds
    assert lower.mean() > 0.75 * epsilon
    assert (np.array([from_one_run(int(w), r, 0.5) for w in correct]) > epsilon).mean() > 0.3


def test_randomised_response_among_many_inputs() -> None:
    rng, epsilon, m, n = np.random.default_rng(1), 2.0, 50, 2000
    correct = rng.binomial(n, math.exp(epsilon) / (m - 1 + math.exp(epsilon)), SEEDS)
    lower = np.array([from_messages(int(w), n, m) for w in correct])
    assert (lower <= epsilon).mean() >= 0.93
    assert lower.mean() > 0.85 * epsilon


def test_rates_of_gaussian_noise_stay_under_the_proved_epsilon_and_reach_for_it() -> None:
    """At the threshold where the two densities' ratio is e^epsilon the bound is met with equality."""
    rng, mu, delta, n = np.random.default_rng(2), 1.0, 0.05, 5000
    proved = epsilon_of(mu, delta)
    threshold = proved / mu + mu / 2
    lower = []
    for _ in range(SEEDS):
        hits = int((rng.standard_normal(n) + mu > threshold).sum())
        alarms = int((rng.standard_normal(n) > threshold).sum())
        lower.append(from_rates(hits, n, alarms, n, delta, confidence=0.975))
    assert np.mean(np.array(lower) <= proved) >= 0.95
    assert np.mean(lower) > 0.6 * proved


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("m", [2, 20])
def test_bayes_attacker_on_gaussian_wire_noise(m: int, sigma: float) -> None:
    """m inputs as far apart as the clip allows; the attacker that names the nearest is Bayes."""
    rng, clip, n, d = np.random.default_rng([m, int(10 * sigma)]), 1.0, 400, 32
    codes = np.eye(m, d) * clip if m > 2 else np.array([[clip], [-clip]]) * np.eye(1, d)
    bound = success_under_mu(1 / m, 2 * clip / sigma)
    rates, held = [], []
    for _ in range(SEEDS):
        sent = rng.integers(0, m, n)
        z = codes[sent] + sigma * rng.standard_normal((n, d))
        correct = int((((z[:, None] - codes) ** 2).sum(2).argmin(1) == sent).sum())
        rates.append(correct / n)
        held.append(audit_messages(correct, n, m, clip=clip, sigma=sigma).holds)
        if m == 2:
            held[-1] &= from_one_run(correct, n) <= epsilon_of(2 * clip / sigma, 1e-5)
    assert np.mean(rates) <= bound + 3 * math.sqrt(bound * (1 - bound) / n / SEEDS)
    assert np.mean(rates) > 1.2 / m
    assert np.mean(held) >= 0.95


def test_less_noise_than_was_proved_is_found_out() -> None:
    """A device that adds a tenth of its noise: the audit refutes its epsilon."""
    rng = np.random.default_rng(3)
    sent = rng.integers(0, 2, 1000)
    z = np.where(sent, 1.0, -1.0) + 0.4 * rng.standard_normal(1000)
    audit = audit_messages(int(((z > 0) == sent).sum()), 1000, 2, clip=1.0, sigma=4.0)
    assert audit.proved == pytest.approx(epsilon_of(0.5, 1e-5)) and not audit.holds


def test_unclipped_activations_make_the_audit_refuse() -> None:
    with pytest.raises(ValueError, match="unclipped activations have no sensitivity, hence no epsilon"):
        audit_messages(90, 100, 2, clip=None, sigma=1.0)


@pytest.mark.parametrize("counts", [(2, 1), (-1, 5), (0, 0)])
def test_counts_that_cannot_be(counts: Any) -> None:
    with pytest.raises(ValueError, match="successes <= trials"):
        from_one_run(*counts)
    with pytest.raises(ValueError, match="at least 2"):
        from_messages(1, 10, 1)
