import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from wireleak.common.measures.bounds.gaussian import delta_of
from wireleak.common.measures.bounds.reconstruction_robustness import (
    success_under_epsilon,
    success_under_mu,
    success_within_ball,
)


@pytest.mark.parametrize(("mu", "success"), [(0, 0.1), (0.5, 0.217), (1, 0.389), (2, 0.764), (4, 0.997)])
def test_published_values_at_a_tenth(mu: float, success: float) -> None:
    assert success_under_mu(0.1, mu) == pytest.approx(success, abs=6e-4)


@pytest.mark.parametrize(("prior", "mu"), [(0.002, 0.5), (0.002, 1.0), (0.002, 3.0), (0.1, 0.5), (0.1, 1.0)])
def test_it_is_the_best_that_the_whole_epsilon_delta_curve_gives(prior: float, mu: float) -> None:
    best = minimize_scalar(
        lambda epsilon: success_under_epsilon(prior, epsilon, delta_of(mu, epsilon)),
        bounds=(0, -math.log(prior)),
        method="bounded",
    )
    assert success_under_mu(prior, mu) == pytest.approx(best.fun, rel=1e-4)


@pytest.mark.parametrize("sigma", [0.5, 1.5, 4.0])
def test_two_inputs_attain_the_bound_within_a_ball(sigma: float) -> None:
    """The likelihood-ratio attacker on two inputs 2C apart: nobody does better, and the bound says so."""
    rng = np.random.default_rng(0)
    clip, n = 1.0, 200_000
    sent = rng.integers(0, 2, n)
    z = np.where(sent, clip, -clip) + sigma * rng.standard_normal(n)
    rate = ((z > 0) == sent).mean()
    assert rate == pytest.approx(success_within_ball(0.5, clip, sigma), abs=0.004)
    assert rate < success_under_mu(0.5, 2 * clip / sigma)


def test_no_clip_no_bound() -> None:
    with pytest.raises(ValueError, match="unclipped"):
        success_within_ball(0.5, None, 1.0)


def test_pure_epsilon() -> None:
    assert success_under_epsilon(0.1, 1.0) == pytest.approx(0.1 * math.e)
    assert success_under_epsilon(0.1, 5.0) == 1
    assert success_under_epsilon(0.1, 5000.0) == 1
    assert success_under_epsilon(0.0, 1.0, delta=0.01) == 0.01


def test_ends() -> None:
    assert success_under_mu(0.0, math.inf) == 0
    assert success_under_mu(0.1, math.inf) == 1 == success_under_mu(1.0, 0.0)


@pytest.mark.parametrize("call", [(1.1, 1.0), (-0.1, 1.0), (0.5, -1.0), (math.nan, 1.0)])
def test_what_is_no_probability_is_refused(call: Any) -> None:
    for bound in (success_under_mu, success_under_epsilon):
        with pytest.raises(ValueError, match="must lie in"):
            bound(*call)
