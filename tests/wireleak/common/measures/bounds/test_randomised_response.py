"""Randomised response: its closed form against the table of its chances, and audits with the device's transform."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import client.transforms.randomised.word_response as device_module
from client.transforms.registry import TRANSFORMS
from wireleak.common.measures.bounds.randomised_response import Response, kept
from wireleak.common.measures.bounds.two_points import TwoPointAudit, audit, count_errors, smallest_fault

MESSAGES, LENGTH = 4000, 8
SETTINGS = [Response(1.0, 2), Response(3.0, 41), Response(8.5, 5000)]


def table(promised: float, values: int) -> Any:
    """Chances (values, values) of each output for each value."""
    chances = np.ones((values, values)) + (math.exp(promised) - 1) * np.eye(values)
    return chances / chances.sum(1, keepdims=True)


def audited(response: Response, seed: int) -> TwoPointAudit:
    """Audit messages of the device as the lab does: one word of each differs, the others are padding."""
    random = np.random.default_rng(seed)
    first, place = random.integers(0, 2, MESSAGES).astype(bool), np.arange(MESSAGES) % LENGTH
    rows = np.zeros((MESSAGES, LENGTH), np.float32)
    rows[np.arange(MESSAGES), place] = np.where(first, *response.pair())
    kind = TRANSFORMS.get("word-response")
    device: Any = kind(kind.options(epsilon=response.promised, words=response.values), seed)
    seen = device(torch.from_numpy(rows), torch.from_numpy(rows)).numpy()
    return audit(response, *count_errors(seen[np.arange(MESSAGES), place], first))


@pytest.mark.parametrize("response", SETTINGS[:2])
def test_figures_are_those_of_the_table(response: Response) -> None:
    chances = table(response.promised, response.values)
    assert kept(response.promised, response.values) == pytest.approx(chances[0, 0])
    assert response.spread == pytest.approx(1 - chances[0, 0])
    assert response.error() == pytest.approx(np.minimum(chances[0], chances[-1]).sum() / 2)
    assert response.epsilon(response.spread, 0.0) == pytest.approx(np.log(chances.max() / chances.min()))
    for factor in (0.3, 0.5, 1.0):
        assert response.spread_at(response.error(factor)) == pytest.approx(factor * response.spread)
    assert response.epsilon(response.spread_at(0.5), 0.0) == pytest.approx(0, abs=1e-12)
    assert math.isinf(response.epsilon(response.spread_at(0.0), 0.0))


@pytest.mark.parametrize("response", SETTINGS)
def test_promised_replacements_hold_and_prove_most_of_their_epsilon(response: Response) -> None:
    found = [audited(response, seed) for seed in range(5)]
    assert all(one.holds for one in found)
    assert 0.75 * response.promised < np.mean([one.lower for one in found]) < response.promised
    assert found[0].promised == pytest.approx(response.promised)


@pytest.mark.parametrize("response", SETTINGS)
def test_half_of_the_replacements_are_refuted(response: Response, monkeypatch: pytest.MonkeyPatch) -> None:
    assert smallest_fault(response, MESSAGES * 3 // 4) > 0.5
    monkeypatch.setattr(device_module, "kept", lambda epsilon, words: 1 - (1 - kept(epsilon, words)) / 2)
    found = [audited(response, seed) for seed in range(3)]
    assert not any(one.holds for one in found)
    assert min(one.lower for one in found) > response.promised


def test_a_chance_needs_two_values() -> None:
    with pytest.raises(ValueError, match=r"^epsilon 1.0, values 1: need epsilon >= 0 and values >= 2"):
        kept(1.0, 1)
