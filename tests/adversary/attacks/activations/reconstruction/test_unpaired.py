"""Alignments against maps that are known, and the attack where it can work and where it cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import ortho_group

from adversary.attacks.activations.reconstruction.alignments import ALIGNMENTS, assigned, axes, quantiles
from adversary.attacks.activations.reconstruction.unpaired import Unpaired, UnpairedOptions
from adversary.attacks.harness.knowledge import Knowledge

RNG = np.random.default_rng(0)


def skewed(count: Any, width: Any = 4) -> Any:
    """Coordinates of different spread and skewness, so that they can be told apart."""
    return (RNG.gamma(2.0, size=(count, width)) * (1 + np.arange(width))).astype(np.float32)


def test_quantiles_undo_a_permutation_and_a_monotone_map() -> None:
    own = skewed(4000)
    theirs = np.sqrt(skewed(4000))[:, [2, 0, 3, 1]] * np.array([5, 1, 7, 3])
    mapped = quantiles(theirs, own)
    assert np.allclose(np.sort(mapped, 0), np.sort(own, 0), rtol=0.02, atol=0.02)
    assert np.corrcoef(mapped[:, 2], theirs[:, 0])[0, 1] > 0.9


@pytest.mark.parametrize("align", [axes, assigned])
def test_principal_axes_undo_a_rotation(align: Any) -> None:
    own, same = skewed(2000), skewed(2000)
    rotated = (same @ ortho_group.rvs(4, random_state=0) + 3).astype(np.float32)
    assert np.corrcoef(align(rotated, own).ravel(), same.ravel())[0, 1] > 0.97


def test_dead_latents_are_no_obstacle() -> None:
    own, theirs = skewed(500), skewed(500)
    own[:, 1] = theirs[:, 3] = 0
    for align in ALIGNMENTS.values():
        assert np.isfinite(align(theirs, own)).all()
    assert np.isfinite(axes(np.zeros((20, 1), np.float32), skewed(30, 1))).all()


def knowledge(x: Any) -> Knowledge:
    nothing, rows = np.zeros(0, np.float32), np.zeros(len(x), np.int64)
    return replace(Knowledge(nothing, x, rows, None, 0, np.zeros(len(x), bool), 0), input_range=(0.0, 1.0))


def bars(count: Any, seed: Any) -> Any:
    """Pictures of one number: how far a bar reaches; almost always not far."""
    reach = np.random.default_rng(seed).beta(1.2, 4, count)
    x = (np.arange(8) / 8 < reach[:, None]).astype(np.float32)
    return x[:, None, None, :].repeat(4, 2), reach.astype(np.float32)


def test_one_number_is_read_without_a_pair() -> None:
    """A single latent can only be aligned in one way, up to its direction. (In most seeds its ReLU dies.)"""
    own, (x, reach) = bars(300, 1)[0], bars(200, 2)
    attack = Unpaired(UnpairedOptions(hidden=(16,), steps=400, learning_rate=1e-2), seed=3)
    attack.fit(knowledge(own))
    guess = attack.guess((7 * reach[:, None] + 1).astype(np.float32))
    prior = np.mean((own.mean(0) - x) ** 2)
    assert guess.shape == x.shape and guess.dtype == np.float32
    assert np.mean((guess - x) ** 2) < 0.5 * prior and attack.report["trust"] > 0.5


def test_noise_in_place_of_latents_is_worth_no_more_than_the_mean() -> None:
    own, (x, _) = bars(200, 1)[0], bars(100, 2)
    attack = Unpaired(UnpairedOptions(hidden=(16,), steps=50), 0)
    attack.fit(knowledge(own))
    guess = attack.guess(RNG.standard_normal((100, 6)).astype(np.float32))
    assert guess.min() >= 0 and guess.max() <= 1
    assert np.mean((guess - x) ** 2) < 2.5 * np.mean((own.mean(0) - x) ** 2)
    assert set(attack.report["rehearsed_mse"]) == set(ALIGNMENTS)


def test_it_repeats_itself_and_needs_some_data() -> None:
    def run() -> npt.NDArray[np.float32]:
        attack = Unpaired(UnpairedOptions(hidden=(8,), steps=20), 3)
        attack.fit(knowledge(bars(50, 1)[0]))
        return attack.guess(skewed_once)

    skewed_once = skewed(30, 5)
    assert np.array_equal(run(), run())
    with pytest.raises(ValueError, match="3 inputs are too few"):
        Unpaired(UnpairedOptions(), 0).fit(knowledge(bars(3, 1)[0]))


def test_it_is_granted_neither_queries_nor_pairs() -> None:
    assert [str(what) for what in Unpaired.threat.knows] == ["surrogate"]
