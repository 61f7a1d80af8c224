"""An audit by two known activations, with the device's own transforms, and with faults planted in them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import laplace, norm

import client.transforms.randomised.laplace as laplace_module
import client.transforms.randomised.noise as noise_module
from client.transforms.registry import TRANSFORMS
from wireleak.common.measures.bounds.two_points import (
    CONFIDENCE,
    Noise,
    TwoPointAudit,
    audit,
    count_errors,
    smallest_fault,
    threshold,
)

CLIP, NUMBERS, MESSAGES = 4.0, 8, 4000
# As the shipped studies set them: mu 1/2, 2 and 8, epsilon 1, 8 and 64.
GAUSSIAN = [16.0, 4.0, 1.0]
LAPLACE = [8.0, 1.0, 0.125]
SETTINGS = [("noise", Noise(2, sigma, CLIP)) for sigma in GAUSSIAN]
SETTINGS += [("laplace", Noise(1, scale, CLIP)) for scale in LAPLACE]


def options(name: str, spread: float) -> dict[str, float]:
    return {"clip": CLIP} | ({"sigma": spread} if name == "noise" else {"epsilon": 2 * CLIP / spread})


def audited(name: str, noise: Noise, seed: int, factor: float = 1.0, skip: bool = False) -> TwoPointAudit:
    """Audit messages of a device whose noise has `factor` times the promised spread."""
    random = np.random.default_rng(seed)
    first, place = random.integers(0, 2, MESSAGES).astype(bool), np.arange(MESSAGES) % NUMBERS
    rows: npt.NDArray[np.float32] = np.zeros((MESSAGES, NUMBERS), np.float32)
    rows[np.arange(MESSAGES), place] = np.where(first, *noise.pair())
    kind = TRANSFORMS.get(name)
    device: Any = kind(kind.options(**options(name, noise.spread * factor)), seed)
    seen = device(torch.from_numpy(rows), torch.zeros(1)).numpy()
    if skip:  # no noise on half of the numbers
        seen[:, ::2] = np.clip(rows[:, ::2], -CLIP, CLIP)
    return audit(noise, *count_errors(seen[np.arange(MESSAGES), place], first))


@pytest.mark.parametrize(("name", "noise"), SETTINGS)
def test_the_least_error_is_half_the_overlap_of_the_two_densities(name: str, noise: Noise) -> None:
    family = norm if name == "noise" else laplace
    for factor in (1.0, 0.5):
        one, other = (family(loc=at, scale=noise.spread * factor) for at in (0.0, noise.shift))
        overlap = 0.0
        edges = [-60 * noise.spread, 0.0, noise.shift / 2, noise.shift, noise.shift + 60 * noise.spread]
        for low, high in pairwise(edges):
            overlap += quad(lambda x, one=one, other=other: min(one.pdf(x), other.pdf(x)), low, high)[0]
        assert noise.error(factor) == pytest.approx(overlap / 2, rel=1e-6)
        assert noise.spread_at(noise.error(factor)) == pytest.approx(factor * noise.spread)


@pytest.mark.parametrize(("name", "noise"), SETTINGS)
def test_promised_noise_holds_and_proves_most_of_its_epsilon(name: str, noise: Noise) -> None:
    audits = [audited(name, noise, seed) for seed in range(5)]
    assert all(one.holds for one in audits)
    mean = np.mean([one.lower for one in audits])
    assert 0.5 * audits[0].promised < mean < audits[0].promised


@pytest.mark.parametrize(("name", "noise"), SETTINGS)
def test_half_the_noise_and_a_missing_clip_are_refuted(
    name: str, noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert noise.error() > 0.05, "errors are too rare for an audit"
    assert smallest_fault(noise, MESSAGES * 3 // 4) > 0.5
    half = [audited(name, noise, seed, factor=0.5) for seed in range(3)]
    assert not any(one.holds for one in half)
    assert np.mean([one.lower for one in half]) > half[0].promised
    module: Any = noise_module if name == "noise" else laplace_module
    monkeypatch.setattr(module, "clipped", lambda activation, clip, norm: activation)
    assert not audited(name, noise, 0).holds


@pytest.mark.parametrize(("name", "noise"), [SETTINGS[1], SETTINGS[4]])
def test_noise_that_misses_half_of_the_numbers_is_refuted(name: str, noise: Noise) -> None:
    assert not audited(name, noise, 0, skip=True).holds


@pytest.mark.parametrize(("name", "noise"), SETTINGS)
def test_the_smallest_fault_is_refuted_in_95_percent_of_audits(name: str, noise: Noise) -> None:
    messages = 3000
    factor = smallest_fault(noise, messages)
    random = np.random.default_rng(0)
    errors, sound = (random.binomial(messages, noise.error(at), 2000) for at in (factor, 1.0))
    holds = {count: audit(noise, count, messages).holds for count in {*errors.tolist(), *sound.tolist()}}
    refuted = np.mean([not holds[count] for count in errors.tolist()])
    assert refuted == pytest.approx(0.95, abs=0.02)
    assert np.mean([not holds[count] for count in sound.tolist()]) <= 1 - CONFIDENCE + 0.002


def test_few_messages_have_no_power_and_say_so() -> None:
    assert smallest_fault(Noise(2, 1.0, 4.0), 5) == 0.0
    assert smallest_fault(Noise(2, 1.0, 4.0), 60) < 0.5


def test_a_threshold_has_the_fewest_errors() -> None:
    values = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    first = np.array([False, False, True, False, True, True])
    best = threshold(values, first)
    errors = [int(((values >= at) != first).sum()) for at in np.arange(-0.5, 6)]
    assert int(((values >= best) != first).sum()) == min(errors) == 1
    assert math.isinf(threshold(values, np.ones(6, bool)))


def test_a_threshold_divides_no_equal_values() -> None:
    values, first = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]), np.array([True, False, False, True, True, True])
    assert threshold(values, first) == 1.5
    assert int(((values >= threshold(values, first)) != first).sum()) == 1
