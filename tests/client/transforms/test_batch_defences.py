"""Declustering (acceptance test 10), NoPeek (test 4's true distance correlation) and the bottleneck."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch.distributions import Normal, kl_divergence

from client.transforms.randomised.bottleneck import kl_nats
from client.transforms.registry import Batch, make
from client.transforms.trained.nopeek import distance_correlation
from wireleak.common.config import ConfigError, Plugin
from wireleak.common.measures.readers.distance_correlation import distance_correlation as measured


def one(name: str, **options: Any) -> Any:
    return make(Plugin(name=name, options=options), seed=0)


def batch(inputs: torch.Tensor, **private: list[int]) -> Batch:
    known = {name: torch.tensor(values) for name, values in private.items()}
    return Batch(inputs, torch.zeros(len(inputs)).long(), known, 0.0)


@pytest.mark.parametrize(("labels", "apart"), [([1, 1], True), ([0, 0], True), ([0, 1], False)])
def test_a_step_pushes_a_pair_of_one_label_apart_and_draws_opposite_ones_together(labels: Any, apart: bool) -> None:
    r = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = one("declustering", attributes=["z"], alpha=0.1).loss(r, batch(r, z=labels))
    assert loss.item() == pytest.approx(0.1 * (-0.5 if apart else 0.5) * (r[0] - r[1]).square().sum().item())
    loss.backward()
    assert r.grad is not None
    stepped = r.detach() - 0.1 * r.grad
    before, after = (float((rows[0] - rows[1]).norm()) for rows in (r.detach(), stepped))
    assert after > before * 1.001 if apart else after < before * 0.999


def test_with_two_attributes_half_a_match_weighs_nothing() -> None:
    r = torch.randn(2, 4)
    of = one("declustering", attributes=["z", "w"])
    assert of.loss(r, batch(r, z=[0, 1], w=[2, 2])).item() == 0
    assert of.loss(r, batch(r, z=[0, 0], w=[2, 2])).item() < 0 < of.loss(r, batch(r, z=[0, 1], w=[0, 2])).item()
    assert of.private() == ("z", "w") and of.loss(r[:1], batch(r[:1], z=[0], w=[0])) is None


def test_over_many_pairings_balanced_groups_pay_for_the_distance_of_their_means() -> None:
    """Of all pairs: E||r - r'||^2 over differing minus agreeing ones is 2 ||m0 - m1||^2 with groups' own variances."""
    torch.manual_seed(0)
    r, z = torch.randn(400, 3), torch.arange(400) % 2
    r[z == 1] += torch.tensor([3.0, 0.0, 0.0])
    of = one("declustering", attributes=["z"], alpha=1.0)
    mean = np.mean([of.loss(r, batch(r, z=z.tolist())).item() for _ in range(200)])
    gap = (r[z == 0].mean(0) - r[z == 1].mean(0)).square().sum().item()
    assert mean == pytest.approx(gap / 4, rel=0.1)


@pytest.mark.parametrize("shapes", [((3,), (5,)), ((1, 4, 4), (2, 3, 3)), ((900,), (2,))])
def test_nopeek_s_value_is_the_measure_s_and_not_sqrt_of_linear_cka(shapes: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(40, *shapes[0])
    z = torch.randn(40, *shapes[1]) + x.flatten(1).square().mean(1).view(-1, *[1] * len(shapes[1]))
    of = one("nopeek", alpha=0.25)
    loss = of.loss(z, batch(x))
    want = measured(x.numpy(), z.numpy())
    assert loss.item() == pytest.approx(0.25 * want, rel=1e-5) and loss.dtype == torch.float32
    assert of.told() == {"distance-correlation": pytest.approx(want, rel=1e-9)}
    assert abs(want - measured(x.numpy(), z.numpy(), exponent=2)) > 0.01


def test_the_distance_correlation_of_itself_scaled_and_turned_is_1() -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1))).Q
    for z in (x, 3 * x @ turn + 1):
        assert distance_correlation(x, z).item() == pytest.approx(1, abs=1e-6)


def test_nopeek_s_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 3, dtype=torch.float64)
    z = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: distance_correlation(x, rows), z)


def test_equal_rows_and_constant_activations_give_no_wild_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3)
    z = torch.randn(8, 5)
    z[1] = z[0] = z[0] * 1e3
    for rows in (z, torch.ones(8, 5), torch.zeros(8, 5)):
        rows.requires_grad_()
        loss = one("nopeek", alpha=1.0).loss(rows, batch(x))
        loss.backward()
        assert rows.grad is not None and rows.grad.isfinite().all() and rows.grad.abs().max() < 10
        assert loss.item() == pytest.approx(measured(x.numpy(), rows.detach().numpy()), abs=1e-6)
    assert one("nopeek").loss(z[:1], batch(x[:1])) is None


def test_texts_are_as_far_apart_as_their_one_hot_codes() -> None:
    words = torch.randint(0, 9, (20, 5), generator=torch.Generator().manual_seed(0))
    z = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    codes = torch.nn.functional.one_hot(words, 9)
    loss = one("nopeek", alpha=1.0).loss(z, batch(words.float()))
    assert loss.item() == pytest.approx(measured(codes.numpy(), z.numpy()), rel=1e-5)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_the_kl_is_torch_s_own(sigma: float) -> None:
    mean = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0))
    want = kl_divergence(Normal(mean, sigma), Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(kl_nats(mean, sigma), want, rtol=1e-5, atol=1e-5)
    of = one("bottleneck", beta=0.1, sigma=sigma)
    assert of.loss(mean[:4], batch(mean[:4])).item() == pytest.approx(0.1 * want[:4].mean().item(), rel=1e-5)
    of.loss(mean[4:], batch(mean[4:]))
    assert of.told() == {"kl-nats": pytest.approx(want.mean().item(), rel=1e-5)}


def test_the_kl_bounds_the_information_of_a_gaussian_message() -> None:
    """Oracle: mu ~ N(0, s^2) through N(0, sigma^2) noise carries 1/2 ln(1 + s^2 / sigma^2) nats."""
    draw = torch.Generator().manual_seed(0)
    for spread, sigma in ((0.5, 0.5), (1.0, 0.3), (0.8, 0.6)):
        mean = spread * torch.randn(20_000, 1, generator=draw)
        carried = 0.5 * np.log(1 + spread**2 / sigma**2)
        slack = 0.01 if spread**2 + sigma**2 == 1 else 0.0
        bound = kl_nats(mean, sigma).mean().item()
        assert bound > carried - slack and (not slack or bound == pytest.approx(carried, abs=slack))


def test_the_bottleneck_sends_gaussian_draws_of_its_own_and_says_that_it_is_no_dp() -> None:
    of, activation = one("bottleneck", sigma=0.5), torch.rand(2000, 50)
    sent = of(activation, activation)
    assert kstest(((sent - activation) / 0.5).flatten().numpy(), "norm").pvalue > 1e-3
    assert torch.equal(one("bottleneck", sigma=0.5)(activation, activation), sent)
    assert not torch.isclose(of(activation, activation), sent).all(1).any()
    assert not torch.allclose(one("noise", sigma=0.5)(activation, activation), sent)
    assert of.guarantee(1) is None and "no epsilon" in of.refusal()


def test_training_with_each_lowers_what_it_should(split_training: Any) -> None:
    plain, defended = (split_training("declustering", attributes=["secret"], alpha=alpha) for alpha in (0.0, 1.0))
    assert plain.fresh_attacker("secret") > defended.fresh_attacker("secret") + 0.1 and defended.accuracy() > 0.9
    plain, defended = (split_training("nopeek", alpha=alpha) for alpha in (0.0, 2.0))
    scores = [measured(run.inputs.numpy(), run.activations().numpy()) for run in (plain, defended)]
    assert scores[1] < scores[0] - 0.05 and defended.accuracy() > 0.9
    plain, defended = (split_training("bottleneck", beta=beta, sigma=0.5) for beta in (0.0, 0.1))
    assert defended.transform.told()["kl-nats"] < plain.transform.told()["kl-nats"] - 1
    assert plain.fresh_attacker("secret") > defended.fresh_attacker("secret") + 0.1 and defended.accuracy() > 0.9


NAMED: dict[str, tuple[str, dict[str, Any], float]] = {
    "gradient-reversal": ("strength", {"attribute": "z"}, 101),
    "multidetasking": ("weight", {"attribute": "z"}, 101),
    "adversarial-generation": ("weight", {}, 1e5),
    "declustering": ("alpha", {"attributes": ["z"]}, 101),
    "nopeek": ("alpha", {}, 101),
    "bottleneck": ("beta", {}, 11),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_strength_that_means_nothing_is_one_line_that_names_it(name: str) -> None:
    field, rest, absurd = NAMED[name]
    for value in (-0.1, float("nan"), float("inf"), absurd):
        with pytest.raises(ConfigError, match=rf"^transforms\.{name}\.{field}: Input should be [^\n]+$"):
            one(name, **rest, **{field: value})
    made = one(name, **rest, **{field: 0})
    assert made.trains and made.changes.device and made.private() == ("z",) * bool(rest)


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("gradient-reversal", {}, r"attribute: is missing"),
        ("gradient-reversal", {"attribute": "z", "schedule": "linear"}, r"schedule: "),
        ("multidetasking", {"attribute": "z", "form": "both"}, r"form: "),
        ("declustering", {"attributes": []}, r"attributes: "),
        ("declustering", {"attributes": ["z", "z"]}, r"attributes: .*name each attribute once"),
        ("bottleneck", {"sigma": 0}, r"sigma: Input should be greater than 0"),
        ("adversarial-generation", {"margin": 0}, r"margin: Input should be greater than 0"),
        ("nopeek", {"strength": 1}, r"strength: no key called 'strength'; choose one of alpha"),
    ],
)
def test_other_mistakes_name_the_option(name: str, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=rf"^transforms\.{name}\.{line}"):
        one(name, **options)
