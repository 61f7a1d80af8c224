"""Scores and readings of large inputs are taken in blocks: the numbers stay, the memory does not grow."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from wireleak.common import memory
from wireleak.common.measures import score_reconstruction
from wireleak.common.measures.readers.readout import linear_readout
from wireleak.common.measures.readers.usable_information import project
from wireleak.common.measures.scores.mse import squared_errors
from wireleak.common.measures.scores.reid import Reidentification
from wireleak.common.measures.scores.ssim import StructuralSimilarity

RNG = np.random.default_rng(0)


def test_blocks_change_no_score(monkeypatch: Any) -> None:
    truth = RNG.random((30, 3, 16, 16), np.float32)
    guess = np.clip(truth + RNG.normal(0, 0.4, truth.shape), 0, 1).astype(np.float32)
    whole = score_reconstruction(guess, truth, np.random.default_rng(1))
    monkeypatch.setattr(memory, "BLOCK_BYTES", 5000)
    parts = score_reconstruction(guess, truth, np.random.default_rng(1))
    assert {score.measure for score in parts} >= {"mse", "psnr", "reid", "ssim"}
    for one, other in zip(whole, parts, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-6) and one.n == other.n


def test_blocks_change_no_reading(monkeypatch: Any) -> None:
    rows = RNG.standard_normal((60, 500), np.float32) * 3 + 1
    rows[:, 7] = 2
    targets = rows[:, :3] + RNG.standard_normal((60, 3))
    whole = project(rows, 20, np.random.default_rng(2)), linear_readout(rows, targets, permutations=2)
    monkeypatch.setattr(memory, "BLOCK_BYTES", 30_000)
    parts = project(rows, 20, np.random.default_rng(2)), linear_readout(rows, targets, permutations=2)
    np.testing.assert_allclose(whole[0], parts[0], atol=1e-4)
    assert whole[1].share == pytest.approx(parts[1].share, abs=1e-5)


@pytest.mark.parametrize("measure", [squared_errors, Reidentification(), StructuralSimilarity()])
def test_memory_does_not_grow_with_the_inputs(monkeypatch: Any, measure: Any) -> None:
    monkeypatch.setattr(memory, "BLOCK_BYTES", 2**21)
    truth = RNG.random((40, 3, 96, 96), np.float32)
    guess = truth * np.float32(0.9)
    arguments = () if measure is squared_errors else (np.random.default_rng(0),)
    tracemalloc.start()
    measure(guess, truth, *arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The bootstrap's resamples take a few MiB more.
    assert peak < 8 * 2**20
