"""Noise and requantisation of activations, against torch's rounding and Gaussian differential privacy."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from typer.testing import CliRunner

from client.__main__ import app as command
from client.transforms.chain import Chain
from client.transforms.registry import TRANSFORMS, guarantees, make, straight_through
from wireleak.common.config import ConfigError, Plugin

NOTHING = torch.zeros(1, 1, 4, 4)


def one(name: str, seed: int = 0, **options: Any) -> Any:
    return make(Plugin(name=name, options=options), seed)


def any_floats(count: int = 200_000) -> torch.Tensor:
    """Random bit patterns: every exponent, both signs, ties among them."""
    words = np.random.default_rng(0).integers(0, 2**32, count, dtype=np.uint32)
    words[::3] &= 0xFFFF8000  # ties at 7 bits
    values = words.view(np.float32)
    return torch.from_numpy(values[np.isfinite(values)].copy())


@pytest.mark.parametrize("options", [{"bits": 7}, {"dtype": "bfloat16"}])
def test_seven_bits_are_torch_s_bfloat16(options: dict[str, Any]) -> None:
    values = any_floats()
    want = values.to(torch.bfloat16).to(torch.float32)
    normal = (values.abs() >= torch.finfo(torch.float32).tiny) & want.isfinite()
    got = one("requantise", **options)(values, NOTHING)
    assert torch.equal(got[normal], want[normal]) and got.isfinite().all()


def test_ten_bits_are_float16_in_its_normal_range() -> None:
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0)) + 4
    values = values[values.abs() > 1e-3]
    want = values.numpy().astype(np.float16).astype(np.float32)
    for options in ({"bits": 10}, {"dtype": "float16"}):
        assert np.array_equal(one("requantise", **options)(values, NOTHING).numpy(), want)


def test_rounding_never_overflows_and_leaves_zero_alone() -> None:
    values = torch.tensor([torch.finfo(torch.float32).max, 1e38, 0.0, -0.0, 1e-45])
    for options in ({"bits": 2}, {"bits": 23}, {"dtype": "float16"}, {"dtype": "bfloat16"}):
        got = one("requantise", **options)(values, NOTHING)
        assert got.isfinite().all() and not got[2:4].any()
    assert torch.equal(one("requantise", bits=23)(any_floats(), NOTHING).abs() < 1e-37, any_floats().abs() < 1e-37)


def test_noise_is_gaussian_around_what_was_clipped() -> None:
    activation = torch.cat([torch.full((2000, 50), 3.0), torch.full((2000, 50), 0.01), torch.zeros(10, 50)])
    sent = one("noise", clip=2.0, sigma=0.5)(activation, NOTHING)
    clipped = torch.cat([torch.full((2000, 50), 2 / 50**0.5), activation[2000:]])
    assert kstest(((sent - clipped) / 0.5).flatten().numpy(), "norm").pvalue > 1e-3
    assert torch.equal(one("noise", clip=2.0, sigma=0.5)(activation, NOTHING), sent)


def test_no_two_devices_or_messages_share_their_noise() -> None:
    noise = one("noise", sigma=1.0)
    first, second = noise(torch.zeros(4, 8), NOTHING), noise(torch.zeros(4, 8), NOTHING)
    other = one("noise", sigma=1.0)(torch.ones(4, 8), NOTHING) - 1
    assert not torch.isclose(first, second).any() and not torch.isclose(first, other).any()


@pytest.mark.parametrize(("messages", "mu", "epsilon"), [(1, "1", "4.38"), (4, "2", "10"), (16, "4", "24.4")])
def test_the_guarantee_is_that_of_gaussian_privacy(messages: int, mu: str, epsilon: str) -> None:
    """Gaussian differential privacy (Dong, Roth, Su 2022): mu 1, 2, 4 are epsilon 4.38, 10.0, 24.4 at delta 1e-5."""
    told = one("noise", clip=4.0, sigma=8.0).guarantee(messages)
    assert f"({epsilon}, 1e-05)" in told and f"mu = {mu}," in told and "whole input" in told


def test_noise_without_a_clip_has_no_epsilon() -> None:
    noise = one("noise", sigma=100.0)
    assert noise.guarantee(1) is None and "unclipped" in noise.refusal() and "no epsilon" in noise.refusal()
    assert one("noise", clip=1.0, sigma=1.0).refusal() is None


def test_a_guarantee_survives_processing_but_not_a_second_look_at_the_input() -> None:
    noise, narrow, covert = one("noise", clip=1.0, sigma=1.0), one("requantise"), one("covert")
    assert guarantees([noise, narrow], 1)[0] == noise.guarantee(1)
    assert guarantees([covert, noise], 1)[1] == noise.guarantee(1)
    assert guarantees([noise, covert], 1) == [None, None]


def test_the_command_tells_guarantees_and_refusals() -> None:
    steps = [{"name": "noise", "options": {"sigma": 1}}, {"name": "noise", "options": {"clip": 1, "sigma": 1}}]
    told = json.loads(CliRunner().invoke(command, ["transforms", json.dumps(steps)]).stdout)
    assert [bool(step["guarantee"]) for step in told] == [False, True]
    assert "no epsilon" in told[0]["refusal"] and told[1]["refusal"] is None


def test_a_chain_is_applied_in_its_order() -> None:
    names = [("noise", {"clip": 1.0, "sigma": 1.0}), ("requantise", {"bits": 3})]
    activation = torch.rand(5, 7)
    steps = [Plugin(name=name, options=options) for name, options in names]
    sent = Chain(steps, 3)(activation, NOTHING)
    want = one("requantise", bits=3)(one("noise", 3, clip=1.0, sigma=1.0)(activation, NOTHING), NOTHING)
    assert torch.equal(sent, want)
    assert not (sent.numpy().view(np.uint32) & ((1 << 20) - 1)).any()


def test_gradients_pass_straight_through() -> None:
    activation = torch.rand(3, 4, requires_grad=True)
    sent = straight_through(activation, activation.detach().round())
    assert torch.equal(sent, activation.detach().round())
    (sent * torch.arange(4.0)).sum().backward()
    assert activation.grad is not None and torch.equal(activation.grad, torch.arange(4.0).expand(3, 4))


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        (
            "nois",
            {},
            r"transforms: no transform called 'nois'; did you mean 'noise'\? Choose one of .*covert, .*noise, .*req",
        ),
        ("noise", {}, "transforms.noise.sigma: is missing"),
        ("noise", {"sigma": 1, "clip": 0}, "transforms.noise.clip: Input should be greater than 0"),
        ("requantise", {"dtype": "int8"}, "transforms.requantise.dtype: "),
        (
            "requantise",
            {"bit": 3},
            "transforms.requantise.bit: no key called 'bit'; did you mean 'bits'",
        ),
        ("covert", {"low": 1, "high": 1}, "transforms.covert.high: 1 is not above low|transforms.covert.*above low"),
    ],
)
def test_a_mistake_names_the_option(name: str, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^(?:{line})"):
        make(Plugin(name=name, options=options), 0)


def test_every_transform_documents_itself() -> None:
    for name, kind in TRANSFORMS.all().items():
        assert kind.name == name and (kind.__doc__ or "").count("\n") > 3
        assert all(field.description for field in kind.options.model_fields.values())
