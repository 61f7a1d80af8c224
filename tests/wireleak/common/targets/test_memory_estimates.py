"""Estimates bound what the computations take."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from wireleak.common import memory
from wireleak.common.targets.baselines import nearest, nearest_memory
from wireleak.common.targets.memory import PROCESS_BYTES, Sizes, attack_memory
from wireleak.common.targets.ridge import ridge, ridge_memory

RNG = np.random.default_rng(0)


def peak(work: Any) -> int:
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.mark.parametrize(("rows", "features", "inputs"), [(300, 8000, 3000), (900, 200, 800), (1200, 1100, 64)])
def test_ridge_takes_no_more_than_its_estimate(monkeypatch: Any, rows: int, features: int, inputs: int) -> None:
    z, x = RNG.standard_normal((rows, features), np.float32), RNG.random((rows, inputs), np.float32)
    monkeypatch.setattr(memory, "BLOCK_BYTES", 2**22)
    monkeypatch.setattr("wireleak.common.targets.ridge.BLOCK_BYTES", 2**22)
    estimate = ridge_memory(rows, features, inputs)
    used = peak(lambda: ridge(z, x, np.arange(rows) % 6 == 0).guess(z[:10]))
    assert used < estimate < 30 * used


def test_nearest_takes_no_more_than_its_estimate(monkeypatch: Any) -> None:
    monkeypatch.setattr(memory, "BLOCK_BYTES", 2**20)
    monkeypatch.setattr("wireleak.common.targets.baselines.BLOCK_BYTES", 2**20)
    z, q = RNG.standard_normal((700, 5000), np.float32), RNG.standard_normal((900, 5000), np.float32)
    x = RNG.random((700, 1), np.float32)
    assert peak(lambda: nearest(z, x, q)) < nearest_memory(700, 900) < z.nbytes


def test_an_attack_counts_its_data_guesses_network_and_baselines() -> None:
    sizes = Sizes(600, 100, (32, 48, 48), (3, 96, 96))
    data = 4 * (700 * 32 * 48 * 48 + (600 + 8 * 100) * 3 * 96 * 96)
    assert sizes.held == data
    assert PROCESS_BYTES + data < attack_memory(sizes) < 2 * 2**30
    assert attack_memory(sizes, parameters=10**9) > 2 * 10**10
