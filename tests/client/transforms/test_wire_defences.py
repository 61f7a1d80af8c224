"""Laplace, metric privacy, dropout, quantisation: what they draw beside scipy's distributions, and their promises."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta, binomtest, gamma, kstest, laplace

from client.transforms.randomised.clipping import clipped
from client.transforms.randomised.random_transform import generator
from client.transforms.registry import guarantees, make
from wireleak.common.config import ConfigError, Plugin
from wireleak.common.measures.bounds.laplace import composed

NOTHING = torch.zeros(1, 1, 4, 4)
DRAWING = [
    ("noise", {"clip": 1.0, "sigma": 1.0}),
    ("laplace", {"clip": 1.0, "epsilon": 1.0}),
    ("metric-privacy", {"epsilon": 1.0}),
    ("dropout", {"rate": 0.5}),
]


def one(name: str, seed: int = 0, /, **options: Any) -> Any:
    return make(Plugin(name=name, options=options), seed)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "options"), DRAWING)
def test_draws_are_repeated_by_the_seed_and_shared_by_nobody(name: str, options: dict[str, Any]) -> None:
    z = 1 + torch.rand(6, 5, 8, generator=torch.Generator().manual_seed(0))
    device = one(name, **options)
    first, second = device(z, NOTHING), device(z, NOTHING)
    assert first.dtype == torch.float32 and first.shape == z.shape
    assert torch.equal(one(name, **options)(z, NOTHING), first)
    for other in (second, one(name, 1, **options)(z, NOTHING), one(name, **options)(z + 1e-3, NOTHING)):
        assert (torch.isclose(first, other, atol=5e-3).float().mean() < 0.75) and not torch.equal(first, other)


def test_gaussian_noise_draws_what_it_drew_in_published_studies() -> None:
    z = normal(3, 4)
    first = hashlib.sha256((7).to_bytes(8, "little") + z.numpy().tobytes()).digest()
    drawn = torch.randn(3, 4, generator=torch.Generator().manual_seed(int.from_bytes(first[:7], "little")))
    assert torch.equal(one("noise", 7, sigma=2.0)(z, NOTHING), z + 2.0 * drawn)


def test_steps_that_begin_with_one_batch_draw_apart() -> None:
    z = torch.zeros(2, 3)  # a mask hides nothing of it
    seeds = {generator(0, z, stream).initial_seed() for stream in ("", "dropout", "laplace", "metric-privacy")}
    assert len(seeds) == 4


@pytest.mark.parametrize("norm", [1, 2])
def test_no_two_clipped_activations_are_further_apart_than_was_promised(norm: int) -> None:
    wild = torch.tensor([[1e38] * 3, [float("inf"), -1.0, 0.0], [float("nan")] * 3, [0.0] * 3, [3e-39, 0.0, 0.0]])
    z = torch.cat([normal(500, 3), 1e4 * normal(500, 3), wild])
    found = clipped(z.reshape(-1, 3, 1), 1.5, norm).flatten(1).double()
    assert found.isfinite().all()
    assert torch.cdist(found, found, p=norm).max() <= 3 * (1 + 1e-6)
    short = torch.linalg.vector_norm(z[:1000], ord=norm, dim=1) < 1.5
    assert short.any() and torch.equal(found[:1000][short].float(), z[:1000][short])
    long = torch.linalg.vector_norm(found[500:1000], ord=norm, dim=1)
    assert torch.allclose(long, torch.full_like(long, 1.5))
    assert torch.nn.functional.cosine_similarity(found[500:1000], z[500:1000].double()).min() > 1 - 1e-6


# Laplace


def test_laplace_noise_is_laplace_around_what_was_clipped() -> None:
    z = torch.cat([torch.full((2000, 50), 3.0), torch.full((2000, 50), 0.01), torch.zeros(10, 50)])
    sent = one("laplace", clip=2.0, epsilon=5.0)(z, NOTHING)
    centre = torch.cat([torch.full((2000, 50), 2 / 50), z[2000:]])
    drawn = (sent - centre).double().numpy()
    assert kstest(drawn.ravel(), laplace(scale=2 * 2.0 / 5.0).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(np.abs(drawn).T)[np.triu_indices(50, 1)]).mean() < 0.02  # drawn one by one


def test_laplace_without_a_clip_draws_at_its_scale_and_names_no_epsilon() -> None:
    step = one("laplace", scale=0.3)
    drawn = step(torch.full((400, 50), 1e3, dtype=torch.float64), NOTHING) - 1e3
    assert kstest(drawn.numpy().ravel(), laplace(scale=0.3).cdf).pvalue > 1e-3
    assert step.guarantee(1) is None and "no epsilon: unclipped activations" in step.refusal()
    assert one("laplace", clip=1.0, epsilon=1.0).refusal() is None


def test_laplace_s_guarantee_is_pure_and_composes() -> None:
    step = one("laplace", clip=4.0, epsilon=0.5)
    told = step.guarantee(1)
    assert told.startswith("local 0.5-DP (delta 0) for the whole input over a message") and "scale 16" in told
    many = step.guarantee(100)
    assert many.startswith(f"local 50-DP (delta 0) and ({composed(0.5, 100, 1e-5):.3g}, 1e-05)-DP")
    assert "100 messages about one input" in many and composed(0.5, 100, 1e-5) < 40


# Metric privacy


@pytest.mark.parametrize(("d", "epsilon"), [(1, 0.5), (3, 8.0), (64, 2.0)])
def test_metric_noise_has_a_uniform_direction_and_a_gamma_length(d: int, epsilon: float) -> None:
    z = torch.full((6000, d), 5.0, dtype=torch.float64)
    drawn = (one("metric-privacy", epsilon=epsilon)(z, NOTHING) - z).numpy()
    length = np.linalg.norm(drawn, axis=1)
    assert kstest(length, gamma(d, scale=1 / epsilon).cdf).pvalue > 1e-3
    assert length.mean() == pytest.approx(d / epsilon, rel=0.05)
    direction = drawn / length[:, None]
    assert binomtest(int((direction[:, 0] > 0).sum()), 6000).pvalue > 1e-3
    if d > 1:
        along = np.random.default_rng(0).standard_normal(d)
        cosine = direction @ along / np.linalg.norm(along)
        assert kstest((1 + cosine) / 2, beta((d - 1) / 2, (d - 1) / 2).cdf).pvalue > 1e-3
        assert abs(np.corrcoef(length, cosine)[0, 1]) < 0.05


def test_metric_privacy_of_one_number_is_laplace_noise() -> None:
    drawn = one("metric-privacy", epsilon=4.0)(torch.zeros(5000, 1), NOTHING)
    assert kstest(drawn.numpy().ravel(), laplace(scale=0.25).cdf).pvalue > 1e-3


def test_metric_privacy_claims_no_local_epsilon() -> None:
    step = one("metric-privacy", epsilon=3.0)
    told = step.guarantee(1)
    assert "epsilon 3 per unit of Euclidean distance" in told and "NOT comparable" in told and "d/3" in told
    assert "DP" not in told  # whoever looks for a local guarantee finds none
    assert "epsilon 12 per unit" in step.guarantee(4) and "over 4 messages" in step.guarantee(4)


# Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("scaled", [True, False])
def test_dropout_masks_every_number_alike_and_by_itself(rate: float, scaled: bool) -> None:
    z = 1 + torch.rand(400, 5, 10, generator=torch.Generator().manual_seed(0))
    sent = one("dropout", rate=rate, scaled=scaled)(z, NOTHING)
    gone = sent == 0
    assert binomtest(int(gone.sum()), gone.numel(), rate).pvalue > 1e-3
    assert torch.equal(sent[~gone], (z / (1 - rate) if scaled else z)[~gone])
    share = gone.double().flatten(1)
    assert abs(np.corrcoef(share.T.numpy())[np.triu_indices(50, 1)]).mean() < 0.06
    spread = share.sum(1).var().item()
    assert spread == pytest.approx(50 * rate * (1 - rate), rel=0.35)  # no message is masked as a whole


def test_dropout_masks_gradients_and_promises_nothing() -> None:
    step, z = one("dropout", rate=0.3), torch.ones(50, 4, requires_grad=True)
    sent = step(z, NOTHING)
    sent.sum().backward()
    assert z.grad is not None and torch.equal(z.grad, sent.detach())
    assert step.guarantee(1) is None and step.refusal().startswith("no epsilon of its own: unmasked numbers")


# Quantise


@pytest.mark.parametrize("bits", [1, 2, 5, 8, 16])
@pytest.mark.parametrize("range_", [{"clip": 1.5}, {"low": -0.3, "high": 2.0}, {"low": 4.0, "high": 5.0}])
def test_quantise_sends_the_nearest_level(bits: int, range_: dict[str, float]) -> None:
    z = 2 * normal(300, 10)
    low, high = range_.get("low", -1.5), range_.get("high", 1.5)
    sent = one("quantise", bits=bits, **range_)(z, NOTHING)
    levels = np.linspace(low, high, 2**bits)
    assert sent.dtype == torch.float32 and len(np.unique(sent)) <= 2**bits
    assert np.isin(sent.numpy(), levels.astype(np.float32)).all()
    off = np.abs(sent.double().numpy() - np.clip(z.double().numpy(), low, high))
    assert off.max() <= (high - low) / (2**bits - 1) / 2 + 1e-6
    assert torch.equal(one("quantise", bits=bits, **range_)(sent, NOTHING), sent)
    wild = torch.tensor([[float("inf"), -float("inf"), float("nan"), 1e38]])
    assert np.isin(one("quantise", bits=bits, **range_)(wild, NOTHING).numpy(), levels.astype(np.float32)).all()


def test_gradients_pass_where_the_number_lies_in_the_range() -> None:
    z = torch.tensor([[-2.0, -0.9, 0.0, 0.9, 2.0]], requires_grad=True)
    one("quantise", bits=3, clip=1.0)(z, NOTHING).sum().backward()
    assert z.grad is not None and z.grad.tolist() == [[0, 1, 1, 1, 0]]


def test_quantise_states_capacity_and_no_privacy() -> None:
    step = one("quantise", bits=4, clip=1.0)
    assert step.guarantee(1).startswith(
        "capacity, not privacy: a message of d numbers can carry at most 4 d bits; no eps"
    )
    assert "3 messages of d numbers can carry at most 12 d bits" in step.guarantee(3)
    assert "DP" not in step.guarantee(1) and "no epsilon of its own" in step.refusal()


# Chains


def test_what_follows_keeps_a_guarantee_unless_it_looks_again() -> None:
    noise, pure = one("noise", clip=1.0, sigma=2.0), one("laplace", clip=1.0, epsilon=1.0)
    narrow, mask, covert = one("quantise", bits=4, clip=2.0), one("dropout", rate=0.2), one("covert")
    own = [noise.guarantee(5), pure.guarantee(5), narrow.guarantee(5)]
    assert guarantees([noise, narrow], 5) == [own[0], own[2]]
    assert guarantees([pure, mask, narrow], 5) == [own[1], None, own[2]]
    assert guarantees([noise, pure], 5) == own[:2]  # each holds of what is sent; neither is added to the other
    assert guarantees([covert, pure], 5)[1] == own[1]
    assert guarantees([noise, pure, narrow, covert], 5) == [None] * 4


# Mistakes


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("laplace", {}, "laplace.epsilon: give clip and epsilon, or only scale"),
        ("laplace", {"clip": 1}, "laplace.epsilon: give clip and epsilon"),
        (
            "laplace",
            {"epsilon": 1},
            "laplace.epsilon: unclipped activations have no sensitivity, hence no eps.*set clip",
        ),
        ("laplace", {"clip": 1, "scale": 1}, "laplace.scale: follows from clip and epsilon"),
        ("laplace", {"clip": 1, "epsilon": 1, "scale": 1}, "laplace.epsilon: give clip and epsilon, or only scale"),
        ("laplace", {"clip": 1, "epsilon": 0}, "laplace.epsilon: Input should be greater than 0"),
        ("laplace", {"clip": 1, "epsilon": -2}, "laplace.epsilon: Input should be greater than 0"),
        ("laplace", {"clip": -1, "epsilon": 1}, "laplace.clip: Input should be greater than 0"),
        ("laplace", {"clip": 1, "epsilon": 1e9}, "laplace.epsilon: Input should be less than or equal to 10000"),
        ("laplace", {"clip": float("inf"), "epsilon": 1}, "laplace.clip: Input should be a finite number"),
        ("laplace", {"scale": 0}, "laplace.scale: Input should be greater than 0"),
        ("metric-privacy", {}, "metric-privacy.epsilon: is missing"),
        ("metric-privacy", {"epsilon": 0}, "metric-privacy.epsilon: Input should be greater than 0"),
        ("metric-privacy", {"epsilon": float("nan")}, "metric-privacy.epsilon: Input should be"),
        (
            "metric-privacy",
            {"epsilon": 1, "clip": 1},
            "metric-privacy.clip: no key called 'clip'; choose one of epsilon",
        ),
        ("dropout", {"rate": 0}, "dropout.rate: Input should be greater than 0"),
        ("dropout", {"rate": 1}, "dropout.rate: Input should be less than 1"),
        ("quantise", {"clip": 1}, "quantise.bits: is missing"),
        ("quantise", {"bits": 0, "clip": 1}, "quantise.bits: Input should be greater than or equal to 1"),
        ("quantise", {"bits": 17, "clip": 1}, "quantise.bits: Input should be less than or equal to 16"),
        ("quantise", {"bits": 4}, "quantise.clip: give clip, or low and high"),
        ("quantise", {"bits": 4, "low": 0}, "quantise.clip: give clip, or low and high"),
        ("quantise", {"bits": 4, "low": 0, "high": 1, "clip": 1}, "quantise.clip: give clip, or low and high"),
        ("quantise", {"bits": 4, "low": 1, "high": 0}, "quantise.high: 0 is not above low, 1; swap them"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_option(name: str, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=rf"^transforms\.{line}") as said:
        make(Plugin(name=name, options=options), 0)
    assert "\n" not in str(said.value)
