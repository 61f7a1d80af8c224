"""Write dp_accounting.csv: epsilons by Google's dp-accounting, with which tests compare ours.

Its versions for numpy 2 want attrs below 24 and the tests' other packages have a later one. So it runs in an
environment of its own:

    python -m venv own && own/bin/pip install dp-accounting==0.6.0
    own/bin/python tests/wireleak/common/measures/bounds/make_dp_accounting.py
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import dp_accounting
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld.pld_privacy_accountant import PLDAccountant
from dp_accounting.rdp import RdpAccountant

# Whole orders: at broken ones, which sum an infinite series, the accountants differ by up to .4 %.
ORDERS = [*range(2, 64), 128, 256, 512]
SAMPLED = [
    (0.5, 0.02, 200),
    (0.7, 32 / 11_000, 8238),
    (1.0, 0.01, 1000),
    (1.1, 0.05, 400),
    (2.0, 0.1, 300),
    (4.0, 1.0, 20),
]
DELTAS = [1e-5, 1e-6]


def sampled(noise: float, rate: float, parts: int = 1) -> Any:
    """One step of DP-SGD with `parts` Gaussian mechanisms on one sample."""
    one = dp_accounting.GaussianDpEvent(noise)
    event = one if parts == 1 else dp_accounting.ComposedDpEvent([one] * parts)
    return dp_accounting.PoissonSampledDpEvent(rate, event)


def epsilon(accountant: Any, event: Any, steps: int, delta: float) -> float:
    return float(accountant.compose(event, steps).get_epsilon(delta))


def rows() -> Any:
    for noise, rate, steps in SAMPLED:
        for delta in DELTAS:
            event = sampled(noise, rate)
            yield "rdp", noise, rate, steps, delta, epsilon(RdpAccountant(ORDERS), event, steps, delta)
            yield "pld", noise, rate, steps, delta, epsilon(PLDAccountant(), event, steps, delta)
            joint = epsilon(RdpAccountant(ORDERS), sampled(noise, rate, parts=2), steps, delta)
            yield "joint", noise, rate, steps, delta, joint
    for mu in (0.1, 0.5, 2.0, 8.0):
        for delta in DELTAS:
            yield "gaussian", mu, 1.0, 1, delta, dp_accounting.get_epsilon_gaussian(1 / mu, delta)
            for messages in (9, 100):
                event = dp_accounting.GaussianDpEvent(1 / mu)
                if mu * math.sqrt(messages) <= 20:
                    yield "gaussian-pld", mu, 1.0, messages, delta, epsilon(PLDAccountant(), event, messages, delta)
    for one in (0.1, 0.5, 1.0, 3.0):
        for messages in (1, 9, 50):
            for delta in DELTAS:
                answer = pld.from_randomized_response(2 / (1 + math.exp(one)), 2, value_discretization_interval=1e-4)
                composed = answer.self_compose(messages) if messages > 1 else answer
                yield "any-epsilon-dp", one, 1.0, messages, delta, composed.get_epsilon_for_delta(delta)
                event = dp_accounting.LaplaceDpEvent(1 / one)
                yield "laplace", one, 1.0, messages, delta, epsilon(PLDAccountant(), event, messages, delta)


if __name__ == "__main__":
    with Path(__file__).with_name("dp_accounting.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["accountant", "strength", "rate", "steps", "delta", "epsilon"])
        for *what, value in rows():
            writer.writerow([*what, f"{value:.9g}"])
