"""A malicious server and an honest head of the same network, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from adversary.hijack.config import HijackConfig
from adversary.hijack.service import Running, start
from server.config import ServerConfig
from server.head import RunningHead
from server.head import start as start_honest

torch.set_num_threads(1)

MODEL: dict[str, Any] = {"name": "strided28", "input_shape": [1, 28, 28], "classes": 3, "cut": 2, "seed": 5}


def blots(count: int, seed: int) -> npt.NDArray[np.float32]:
    """One bright blot on black, anywhere: (count, 1, 28, 28)."""
    draw = np.random.default_rng(seed)
    centre, width = draw.uniform(6, 22, (2, count, 1, 1)), draw.uniform(2, 5, (count, 1, 1))
    rows, columns = np.mgrid[:28, :28]
    light: npt.NDArray[np.float64] = np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / width**2)
    return light[:, None].astype(np.float32)


@pytest.fixture
def pictures() -> Callable[[int, int], np.ndarray]:
    """(count, seed) -> pictures."""
    return blots


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A hijacker's config as its JSON holds it; the surrogate's last 10 rows are transformed copies."""
    x = blots(74, 1)
    surrogate = tmp_path / "surrogate.npz"
    np.savez(surrogate, x=x, y=np.zeros(74, np.int64), augmented=np.arange(74) >= 64)
    return {
        "model": dict(MODEL),
        "address": "127.0.0.1:0",
        "ready": str(tmp_path / "ready.json"),
        "checkpoints": str(tmp_path / "checkpoints"),
        "max_batch": 64,
        "surrogate": str(surrogate),
        "out": str(tmp_path / "hijack"),
        "seed": 3,
        "options": {"warm_up": 2},
    }


@pytest.fixture
def hijack(settings: dict[str, Any]) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(**changes: Any) -> Running:
        running.append(start(HijackConfig.model_validate(settings | changes)))
        return running[-1]

    yield begin
    for each in running:
        each.stop(0)


@pytest.fixture
def honest(settings: dict[str, Any], tmp_path: Path) -> Iterator[RunningHead]:
    head = start_honest(
        ServerConfig.model_validate(
            {key: settings[key] for key in ("model", "address", "ready", "checkpoints", "max_batch")}
            | {"plan": {"mode": "split"}, "clients": 1, "history": str(tmp_path / "h.json")}
        )
    )
    yield head
    head.stop(0)
