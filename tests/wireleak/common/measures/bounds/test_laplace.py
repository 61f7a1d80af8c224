import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import laplace

from wireleak.common.measures.bounds.laplace import composed, epsilon_of
from wireleak.common.measures.bounds.reconstruction_robustness import success_among_candidates, success_under_epsilon


@pytest.mark.parametrize(("clip", "scale"), [(1.0, 0.5), (3.0, 12.0)])
def test_epsilon_is_the_largest_log_ratio_of_two_densities(clip: float, scale: float) -> None:
    grid = np.linspace(-5 * clip, 5 * clip, 2001)
    ratio = laplace.logpdf(grid, clip, scale) - laplace.logpdf(grid, -clip, scale)
    assert ratio.max() == pytest.approx(epsilon_of(clip, scale)) == pytest.approx(-ratio.min())


@pytest.mark.parametrize(("epsilon", "messages", "delta"), [(0.5, 3, 1e-3), (1.0, 8, 1e-5), (2.0, 5, 0.1)])
def test_composition_is_attained_by_randomised_response(epsilon: float, messages: int, delta: float) -> None:
    """Its exact epsilon, from the chance of every sequence of answers written out."""
    p = expit(epsilon)
    answers = np.array(list(itertools.product([0, 1], repeat=messages)))
    one, other = np.where(answers, p, 1 - p).prod(1), np.where(answers, 1 - p, p).prod(1)
    found = composed(epsilon, messages, delta)
    assert np.maximum(one - math.exp(found) * other, 0).sum() == pytest.approx(delta)
    assert found < messages * epsilon


def test_laplace_noise_stays_within_its_composition() -> None:
    """The privacy loss over 30 messages, sampled: delta of (epsilon, delta) is E[max(0, 1 - e^(epsilon - loss))]."""
    epsilon, messages, delta = 0.5, 30, 0.02
    rng = np.random.default_rng(0)
    z = 1 + rng.laplace(scale=2 / epsilon, size=(200_000, messages))
    loss = ((np.abs(z + 1) - np.abs(z - 1)) * epsilon / 2).sum(1)
    found = np.maximum(0, -np.expm1(composed(epsilon, messages, delta) - loss)).mean()
    assert 0 < found <= delta


def test_composition_beats_adding_up_and_zcdp_and_advanced_composition() -> None:
    epsilon, messages, delta = 0.1, 400, 1e-5
    rho = messages * epsilon**2 / 2
    zcdp = rho + 2 * math.sqrt(rho * math.log(1 / delta))
    advanced = math.sqrt(2 * messages * math.log(1 / delta)) * epsilon + messages * epsilon * math.expm1(epsilon)
    assert 0.5 * zcdp < composed(epsilon, messages, delta) < zcdp < advanced < messages * epsilon


def test_ends() -> None:
    assert composed(0.7, 5, 0.0) == pytest.approx(3.5) and composed(0.0, 5, 1e-5) == 0
    assert composed(0.001, 1, 0.5) == 0
    assert composed(1000.0, 200, 1e-5) == pytest.approx(200_000)
    assert epsilon_of(1.0, 0.0) == math.inf


@pytest.mark.parametrize("values", [(-1.0, 1, 0.1), (1.0, 0, 0.1), (1.0, 1, 1.0), (math.inf, 1, 0.1)])
def test_impossible_composition_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        composed(*values)


def test_without_a_clip_there_is_no_epsilon() -> None:
    with pytest.raises(ValueError, match="unclipped activations have no sensitivity, hence no epsilon"):
        epsilon_of(None, 1.0)
    for clip, scale in ((0.0, 1.0), (math.inf, 1.0), (1.0, -1.0)):
        with pytest.raises(ValueError, match="need clip > 0"):
            epsilon_of(clip, scale)


@pytest.mark.parametrize("m", [2, 30])
def test_randomised_response_attains_the_bound_on_naming_a_candidate(m: int) -> None:
    epsilon = 1.7
    kept = math.exp(epsilon) / (m - 1 + math.exp(epsilon))
    assert success_among_candidates(1 / m, epsilon) == pytest.approx(kept)
    assert kept < success_under_epsilon(1 / m, epsilon)
    assert success_among_candidates(1 / m, 0.0) == pytest.approx(1 / m)
    assert success_among_candidates(1.0, 3.0) == 1 and success_among_candidates(0.5, math.inf) == 1
