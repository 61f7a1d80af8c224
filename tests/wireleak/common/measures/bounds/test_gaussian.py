import math
from typing import Any

import pytest
from scipy.integrate import quad
from scipy.stats import norm

from wireleak.common.measures.bounds.gaussian import delta_of, epsilon_of, mu_of


@pytest.mark.parametrize(("mu", "epsilon"), [(0.5, 1.99), (1, 4.38), (2, 10.0), (4, 24.4)])
def test_published_epsilons_at_delta_1e_5(mu: float, epsilon: float) -> None:
    assert epsilon_of(mu, 1e-5) == pytest.approx(epsilon, rel=2e-3)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.5, 0.0), (0.5, 1.0), (1, 0.3), (2, 3.0), (4, 5.0)])
def test_delta_is_the_hockey_stick_of_two_normals(mu: float, epsilon: float) -> None:
    def excess(x: Any) -> Any:
        return max(norm.pdf(x, mu) - math.exp(epsilon) * norm.pdf(x), 0.0)

    start = epsilon / mu + mu / 2  # where the excess begins
    assert delta_of(mu, epsilon) == pytest.approx(quad(excess, start, start + mu + 12)[0], rel=1e-6)


@pytest.mark.parametrize("mu", [1e-3, 0.3, 3.0, 30.0, 300.0])
@pytest.mark.parametrize("delta", [1e-10, 1e-5, 0.1])
def test_epsilon_and_delta_are_inverse(mu: float, delta: float) -> None:
    epsilon = epsilon_of(mu, delta)
    if epsilon:
        assert delta_of(mu, epsilon) == pytest.approx(delta, rel=1e-4)
    else:
        assert delta_of(mu, 0) <= delta


def test_opacus_composes_gaussians_to_the_same_epsilon() -> None:
    prv = pytest.importorskip("opacus.accountants").PRVAccountant()
    prv.history = [(2.0, 1.0, 16)]  # noise multiplier 2, every example in every step, 16 steps: mu = sqrt(16) / 2
    assert epsilon_of(mu_of(0.5, 2.0, messages=16), 1e-5) == pytest.approx(prv.get_epsilon(1e-5), rel=0.02)


def test_no_noise_and_no_information() -> None:
    assert mu_of(1.0, 0.0) == math.inf == epsilon_of(math.inf, 1e-5)
    assert epsilon_of(0.0, 1e-5) == 0 == delta_of(0.0, 0.0)
    assert delta_of(math.inf, 9.0) == 1


def test_unclipped_activations_have_no_epsilon() -> None:
    with pytest.raises(ValueError, match="unclipped activations have no sensitivity, hence no epsilon"):
        mu_of(None, 1.0)


@pytest.mark.parametrize(("clip", "sigma"), [(0.0, 1.0), (-1.0, 1.0), (math.inf, 1.0), (1.0, -1.0)])
def test_impossible_noise_is_refused(clip: Any, sigma: float) -> None:
    with pytest.raises(ValueError, match="clip > 0"):
        mu_of(clip, sigma)


@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_epsilon_needs_a_delta(delta: float) -> None:
    with pytest.raises(ValueError, match="no epsilon at delta 0"):
        epsilon_of(1.0, delta)
