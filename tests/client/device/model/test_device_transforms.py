"""The device's transforms in numpy against those of `client.transforms` in torch."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from client.device.model.errors import DeviceError
from client.device.model.manifest import Step
from client.device.model.transforms import ON_INPUT, Chain, Draws, clipped
from client.device.model.transforms import TRANSFORMS as SERVED
from client.transforms.randomised.clipping import clipped as torch_clipped
from client.transforms.registry import TRANSFORMS, make
from wireleak.common.config import Plugin


def chain(*steps: tuple[str, dict[str, Any]], seed: int | None = None, at_inference: bool = True) -> Chain:
    return Chain(tuple(Step(name, options, at_inference, None, None) for name, options in steps), seed)


def in_torch(name: str, options: dict[str, Any], activation: np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(activation)
    return make(Plugin(name=name, options=options), 3)(tensor, tensor).numpy()


@pytest.fixture
def activation() -> np.ndarray:
    drawn = 3 * np.random.default_rng(4).standard_normal((40, 8, 5, 5)).astype(np.float32)
    drawn[0] = 0
    drawn[1] /= 100
    return drawn


@pytest.mark.parametrize("norm", [1, 2])
def test_clipping_is_torch_s(activation: np.ndarray, norm: int) -> None:
    activation[2, 0, 0, 0], activation[3, 0, 0, 0] = np.nan, np.inf
    want = torch_clipped(torch.from_numpy(activation), 4.0, norm).numpy()
    got = clipped(activation, 4.0, norm)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    assert np.linalg.norm(got.reshape(len(got), -1), norm, axis=1).max() <= 4.0 * (1 + 1e-6)


@pytest.mark.parametrize(
    "options", [{"bits": 1, "clip": 2.0}, {"bits": 4, "low": -1.0, "high": 5.0}, {"bits": 16, "clip": 7.5}]
)
def test_quantised_numbers_are_torch_s_bit_for_bit(activation: np.ndarray, options: dict[str, Any]) -> None:
    got = chain(("quantise", options))(activation)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, in_torch("quantise", options, activation))


@pytest.mark.parametrize(
    ("name", "options", "scale", "law"),
    [
        ("noise", {"clip": 4.0, "sigma": 2.0}, 2.0, stats.norm),
        ("noise", {"sigma": 0.5}, 0.5, stats.norm),
        ("laplace", {"clip": 6.0, "epsilon": 4.0}, 3.0, stats.laplace),
        ("laplace", {"scale": 1.5}, 1.5, stats.laplace),
    ],
)
def test_noise_has_the_law_of_torch_s_around_the_same_numbers(
    activation: np.ndarray, name: str, options: dict[str, Any], scale: float, law: Any
) -> None:
    norm = 2 if name == "noise" else 1
    around = clipped(activation, options["clip"], norm) if "clip" in options else activation
    ours = (chain((name, options))(activation) - around).ravel() / scale
    theirs = (in_torch(name, options, activation) - around).ravel() / scale
    # A scale that is wrong by 10 % has p below 1e-6 here; a right law fails once in a million runs.
    many = np.concatenate([(chain((name, options))(activation) - around).ravel() / scale for _ in range(25)])
    assert stats.kstest(many, law.cdf).pvalue > 1e-6
    assert stats.kstest(many * 1.1, law.cdf).pvalue < 1e-6
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-6


@pytest.mark.parametrize("scaled", [True, False])
def test_dropout_zeroes_at_its_rate_and_sends_torch_s_values(activation: np.ndarray, scaled: bool) -> None:
    values = np.abs(activation) + 1
    got = chain(("dropout", {"rate": 0.3, "scaled": scaled}))(values)
    assert stats.binomtest(int((got == 0).sum()), got.size, 0.3).pvalue > 1e-6
    theirs = in_torch("dropout", {"rate": 0.3, "scaled": scaled}, values)
    both = (got != 0) & (theirs != 0)
    np.testing.assert_array_equal(got[both], theirs[both])


def test_noise_comes_from_the_operating_system(monkeypatch: pytest.MonkeyPatch, activation: np.ndarray) -> None:
    asked: list[int] = []
    real = os.urandom

    def counted(count: int) -> bytes:
        asked.append(count)
        return real(count)

    monkeypatch.setattr(os, "urandom", counted)
    noised = chain(("noise", {"clip": 4.0, "sigma": 1.0}))
    assert not np.array_equal(noised(activation), noised(activation))
    assert asked == [2 * 8 * activation.size] * 2


def test_only_a_seed_repeats_noise(activation: np.ndarray) -> None:
    noise = ("noise", {"clip": 4.0, "sigma": 1.0})
    np.testing.assert_array_equal(chain(noise, seed=1)(activation), chain(noise, seed=1)(activation))
    assert not np.array_equal(chain(noise)(activation), chain(noise)(activation))


def test_uniform_numbers_stay_inside_0_and_1(monkeypatch: pytest.MonkeyPatch) -> None:
    for byte in (b"\x00", b"\xff"):
        monkeypatch.setattr(os, "urandom", lambda count, byte=byte: byte * count)
        drawn = Draws().uniform((4,))
        assert ((drawn > 0) & (drawn < 1)).all()
        assert np.isfinite(Draws().laplace((4,))).all()
        assert np.isfinite(Draws().gaussian((4,))).all()


def test_a_transform_that_needs_training_is_refused_by_name() -> None:
    with pytest.raises(
        DeviceError, match="this device cannot apply 'bottleneck', only noise, laplace, quantise, dropout, "
    ):
        chain(("bottleneck", {}))


def test_a_transform_that_only_trained_the_encoder_changes_nothing(activation: np.ndarray) -> None:
    np.testing.assert_array_equal(chain(("nopeek", {"alpha": 0.1}), at_inference=False)(activation), activation)


def test_transforms_apply_in_order(activation: np.ndarray) -> None:
    quantise = ("quantise", {"bits": 2, "clip": 1.0})
    last = chain(("noise", {"clip": 1.0, "sigma": 1.0}), quantise)(activation)
    assert len(np.unique(last)) <= 4
    assert len(np.unique(chain(quantise, ("noise", {"clip": 1.0, "sigma": 1.0}))(activation))) > 4


def test_noise_on_the_input_is_that_of_an_activation_and_comes_before(activation: np.ndarray) -> None:
    for name, options in (("noise", {"clip": 4.0, "sigma": 1.0}), ("laplace", {"clip": 4.0, "epsilon": 2.0})):
        both = chain((f"input-{name}", options), ("quantise", {"bits": 1, "clip": 1.0}), seed=5)
        np.testing.assert_array_equal(both.before(activation), chain((name, options), seed=5)(activation))
        assert set(np.unique(both(activation))) == {-1.0, 1.0}
        assert both.draws
    np.testing.assert_array_equal(chain(("noise", {"sigma": 1.0})).before(activation), activation)


def test_words_are_replaced_as_torch_s() -> None:
    options = {"epsilon": 1.5, "words": 7}
    words = np.random.default_rng(0).integers(0, 8, (20_000, 5)).astype(np.float32)
    ours, theirs = chain(("word-response", options)).before(words), in_torch("word-response", options, words)
    assert ours.dtype == np.float32 and (ours[words == 0] == 0).all()
    chance = np.exp(1.5) / (np.exp(1.5) + 6)
    assert stats.binomtest(int((ours == words)[words > 0].sum()), int((words > 0).sum()), chance).pvalue > 1e-6
    for word in range(1, 8):
        counts = [np.bincount(sent[words == word].astype(int), minlength=8)[1:] for sent in (ours, theirs)]
        assert stats.chi2_contingency(counts).pvalue > 1e-6
        assert stats.chisquare(np.delete(counts[0], word - 1)).pvalue > 1e-6
    with pytest.raises(DeviceError, match="word numbers from 0 to 7"):
        chain(("word-response", options)).before(words + 1)


@pytest.mark.parametrize(
    ("name", "kind", "takes"),
    [
        ("input-noise", "text", "numbers"),
        ("input-laplace", "characters", "numbers"),
        ("word-response", "image", "words"),
    ],
)
def test_an_input_of_another_kind_is_refused(name: str, kind: str, takes: str) -> None:
    with pytest.raises(
        DeviceError, match=f"{name} acts on inputs of {takes}, but the encoder takes inputs of kind {kind}"
    ):
        Chain((Step(name, {}, True, None, None),), None, kind)


def test_the_two_lists_of_transforms_of_the_input_agree() -> None:
    theirs = {name: kind.acts_on for name, kind in TRANSFORMS.all().items() if kind.acts_on != "activation"}
    assert {name: takes for name, takes in theirs.items() if name in SERVED} == ON_INPUT
