"""Bounds from Fisher information; acceptance test 14: 1/dFIL says "unbiased only" wherever it is printed."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from wireleak.common.measures.bounds.fisher import information, unbiased_bound
from wireleak.common.measures.bounds.jacobian import jacobians
from wireleak.common.measures.bounds.van_trees import GaussianPrior, van_trees, van_trees_bound
from wireleak.common.models import build
from wireleak.common.references import UNBIASED

D, K = 8, 64


def channel(target: Any, seed: Any = 0) -> Any:
    """A random linear encoder and the noise at which 1/dFIL is `target`."""
    weights = np.random.default_rng(seed).standard_normal((K, D))
    return weights, math.sqrt((weights**2).sum() / D * target)


def encoder_of(weights: Any) -> Any:
    matrix = torch.from_numpy(weights)
    return lambda x: x.double() @ matrix.T


@pytest.mark.parametrize("target", [6.34, 0.00396])
def test_linear_encoder_has_the_closed_form(target: float) -> None:
    weights, sigma = channel(target)
    found = information(encoder_of(weights), torch.randn(5, D), sigma)
    assert found.exact
    assert found.dfil == pytest.approx(np.full(5, 1 / target))
    assert found.eta == pytest.approx(np.full(5, np.linalg.norm(weights, 2) / sigma))
    assert unbiased_bound(found.dfil).value == pytest.approx(target)


@pytest.mark.parametrize(("target", "bound"), [(6.34, 0.864), (0.00396, 0.00394)])
def test_bayes_attacker_under_a_gaussian_prior(target: float, bound: float) -> None:
    """Weak channel: the Bayes attacker goes far below 1/dFIL, and attains van Trees; strong: both hold."""
    weights, sigma = channel(target)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40_000, D))
    z = x @ weights.T + sigma * rng.standard_normal((len(x), K))
    decoder = np.linalg.solve(np.eye(D) + weights.T @ weights / sigma**2, weights.T) / sigma**2
    attack = float(((z @ decoder.T - x) ** 2).mean())
    assert van_trees(1 / target, 1.0) == pytest.approx(bound, abs=5e-4 * bound + 5e-6)
    prior = GaussianPrior(np.zeros(D), np.eye(D))
    holds = van_trees_bound(encoder_of(weights), prior, sigma, (D,))
    assert van_trees(1 / target, 1.0) <= holds.value
    assert attack == pytest.approx(holds.value, rel=0.01)
    if target > 1:
        assert attack == pytest.approx(0.868, abs=0.005)
        assert attack < target / 7
    else:
        assert attack == pytest.approx(0.00458, rel=0.02)
        assert attack > target


def test_under_a_correlated_gaussian_prior_it_is_the_posterior_variance() -> None:
    weights, sigma = channel(0.5)
    draw = np.random.default_rng(2).standard_normal((D, D))
    prior = draw @ draw.T / D + 0.1 * np.eye(D)
    gain = prior @ weights.T @ np.linalg.inv(weights @ prior @ weights.T + sigma**2 * np.eye(K))
    posterior = prior - gain @ weights @ prior
    holds = van_trees_bound(encoder_of(weights), GaussianPrior(np.zeros(D), prior), sigma, (D,))
    assert holds.value == pytest.approx(np.trace(posterior) / D, rel=1e-4)


def test_an_orthogonal_encoder_attains_both_forms_of_van_trees() -> None:
    weights = np.linalg.qr(np.random.default_rng(0).standard_normal((D, D)))[0]
    prior = GaussianPrior(np.zeros(D), np.eye(D))
    assert van_trees_bound(encoder_of(weights), prior, 0.5, (D,)).value == pytest.approx(van_trees(4.0, 1.0))


def test_van_trees_holds_for_the_bayes_attacker_of_a_bent_encoder() -> None:
    """Posterior mean by numerical integration over one input value; the encoder is a saturating curve."""

    def bend(x: Any) -> Any:
        return torch.tanh(2 * x) + 0.1 * x

    sigma, grid = 0.3, np.linspace(-6, 6, 1501)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(2000)
    codes = (np.tanh(2 * grid) + 0.1 * grid)[None]
    z = np.tanh(2 * x) + 0.1 * x + sigma * rng.standard_normal(len(x))
    log = -((z[:, None] - codes) ** 2) / (2 * sigma**2) - grid**2 / 2
    posterior = np.exp(log - log.max(1, keepdims=True))
    attack = ((posterior @ grid / posterior.sum(1) - x) ** 2).mean()
    bound = van_trees_bound(bend, GaussianPrior(np.zeros(1), np.eye(1)), sigma, (1,), draws=2000).value
    assert 0.1 * attack < bound < attack


def test_jacobians_of_a_convolutional_encoder_are_autograds() -> None:
    network = build("strided28", (1, 28, 28), 2, seed=0)
    encoder = network.split(4)[0].eval()
    x = torch.rand(3, 1, 28, 28)
    ours = jacobians(encoder, x)
    assert ours.shape == (3, 32, 784)
    for row, example in zip(ours, x, strict=True):
        theirs = torch.autograd.functional.jacobian(lambda one: encoder(one[None]).flatten(), example)
        assert torch.allclose(row, theirs.reshape(32, 784), atol=1e-5)
    found = information(encoder, x, sigma=2.0)
    assert found.dfil == pytest.approx((ours**2).sum((1, 2)).numpy() / (784 * 4), rel=1e-4)
    assert found.eta == pytest.approx(torch.linalg.matrix_norm(ours, 2).numpy() / 2, rel=1e-4)


def test_wide_encoders_are_estimated() -> None:
    """A saturating encoder with 300 outputs; the oracle is the Jacobian written down."""
    weights = torch.from_numpy(np.random.default_rng(0).standard_normal((300, 20)))
    x = torch.randn(6, 20, generator=torch.Generator().manual_seed(0)).double()
    found = information(lambda one: torch.tanh(one @ weights.T / 5), x, sigma=1.0)
    slopes = 1 - torch.tanh(x @ weights.T / 5) ** 2
    exact = slopes[:, :, None] * weights / 5
    assert not found.exact
    assert found.dfil == pytest.approx((exact**2).sum((1, 2)).numpy() / 20, rel=0.15)
    assert found.dfil.mean() == pytest.approx((exact**2).sum((1, 2)).mean().item() / 20, rel=0.05)
    assert found.eta == pytest.approx(torch.linalg.matrix_norm(exact, 2).numpy(), rel=0.01)


def test_gaussian_prior_of_pixels_that_never_change() -> None:
    images = np.random.default_rng(0).random((50, 1, 6, 6), np.float32)
    images[:, :, 0] = 0
    prior = GaussianPrior.fit(images)
    assert np.linalg.eigvalsh(prior.covariance).min() > 0
    assert np.trace(prior.covariance) == pytest.approx(images.reshape(50, -1).var(0).sum(), rel=1e-5)
    drawn = prior.sample(20_000, seed=0)
    assert np.cov(drawn.T) == pytest.approx(prior.covariance, abs=0.005)


def test_a_prior_of_one_input_is_refused() -> None:
    with pytest.raises(ValueError, match="do not vary"):
        GaussianPrior.fit(np.ones((9, 4)))


def test_no_noise_bounds_nothing_and_nothing_sent_bounds_all() -> None:
    weights, _ = channel(1.0)
    found = information(encoder_of(weights), torch.randn(2, D), sigma=0.0)
    assert np.isinf(found.dfil).all() and unbiased_bound(found.dfil).value == 0
    assert van_trees_bound(encoder_of(weights), GaussianPrior(np.zeros(D), np.eye(D)), 0.0, (D,)).value == 0
    silent = information(lambda x: 0 * x, torch.randn(2, D), sigma=1.0)
    assert unbiased_bound(silent.dfil).value == math.inf


def test_the_bound_never_prints_without_its_words() -> None:
    bound = unbiased_bound(np.array([2.0, 6.0]))
    assert bound.value == 0.25
    assert "unbiased only" in str(bound) and "unbiased only" in f"{bound}" and bound.holds_for == UNBIASED
