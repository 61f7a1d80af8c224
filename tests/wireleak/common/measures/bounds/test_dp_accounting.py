"""Each of our accountants against Google's dp-accounting: make_dp_accounting.py wrote the epsilons of the latter."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from wireleak.common.measures.bounds import gaussian, laplace
from wireleak.common.measures.bounds.accounting import epsilon, joint_noise_multiplier

# Whole orders: at broken ones, which sum an infinite series, the accountants differ by up to .4 %.
ORDERS = [*range(2, 64), 128, 256, 512]
Theirs = list[tuple[float, float, int, float, float]]


def theirs(accountant: str) -> Theirs:
    """Strength, sample rate, steps, delta and epsilon of every row."""
    with Path(__file__).with_name("dp_accounting.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["accountant"] == accountant]
    names = ("strength", "rate", "steps", "delta", "epsilon")
    found = [tuple(float(row[name]) for name in names) for row in rows]
    assert len(found) >= 8
    return [(strength, rate, int(steps), delta, value) for strength, rate, steps, delta, value in found]


def test_renyi_accounting_of_dp_sgd_agrees_to_seven_digits() -> None:
    for noise, rate, steps, delta, wanted in theirs("rdp"):
        assert epsilon(noise, rate, steps, delta, orders=ORDERS) == pytest.approx(wanted, rel=1e-7)


def test_renyi_accounting_never_promises_less_than_the_privacy_loss_distribution_and_little_more() -> None:
    for noise, rate, steps, delta, wanted in theirs("pld"):
        assert wanted <= epsilon(noise, rate, steps, delta) < 1.25 * wanted


def test_two_mechanisms_on_one_sample_are_one_of_joint_noise_to_seven_digits() -> None:
    for noise, rate, steps, delta, wanted in theirs("joint"):
        joint = joint_noise_multiplier(noise, noise)
        assert epsilon(joint, rate, steps, delta, orders=ORDERS) == pytest.approx(wanted, rel=1e-7)


def test_gaussian_noise_agrees_to_six_digits_and_composed_to_three() -> None:
    for mu, _, _, delta, wanted in theirs("gaussian"):
        assert gaussian.epsilon_of(mu, delta) == pytest.approx(wanted, rel=1e-6)
    for mu, _, messages, delta, wanted in theirs("gaussian-pld"):
        assert gaussian.epsilon_of(mu * math.sqrt(messages), delta) == pytest.approx(wanted, rel=1e-3)


def test_what_is_epsilon_dp_composes_as_randomised_response_does_to_three_digits() -> None:
    """Their privacy loss is rounded up to multiples of 0.0001, in each message."""
    for one, _, messages, delta, wanted in theirs("any-epsilon-dp"):
        assert laplace.composed(one, messages, delta) == pytest.approx(wanted, rel=1e-3, abs=1e-4 * messages)


def test_laplace_noise_costs_no_more_than_any_epsilon_dp_and_almost_as_much_in_few_messages() -> None:
    for one, _, messages, delta, wanted in theirs("laplace"):
        ours = laplace.composed(one, messages, delta)
        assert wanted <= ours + 1e-4 * messages
        if messages == 1:
            assert laplace.epsilon_of(1.0, 2 / one) == pytest.approx(one)
            assert wanted == pytest.approx(one, rel=5e-4)
