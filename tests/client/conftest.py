"""A head in this process, and a device's files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.supercore.task_identity import TaskIdentity

from client.config import HeadConfig
from client.examples import Floats, Labels
from server.config import ServerConfig
from server.head import RunningHead, start
from wireleak.common.models import build, save_weights

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

MODEL: dict[str, Any] = {"name": "strided28", "input_shape": [1, 28, 28], "classes": 3, "cut": 2, "seed": 5}


@pytest.fixture(autouse=True)
def task_identity() -> None:
    """Flower's messages can only be made inside a task of a run."""
    TaskIdentity.task_id = TaskIdentity.run_id = 1
    TaskIdentity.node_id = 1


@pytest.fixture
def start_head(tmp_path: Path) -> Iterator[Callable[..., RunningHead]]:
    running: list[RunningHead] = []

    def begin(**changes: Any) -> RunningHead:
        settings = {
            "model": MODEL, "plan": {"mode": "split", "rounds": 1}, "ready": str(tmp_path / "r"), "clients": 1,
            "seed": 0, "checkpoints": str(tmp_path / "c"), "history": str(tmp_path / "h"),
        }  # fmt: skip
        running.append(start(ServerConfig.model_validate(settings | changes)))
        return running[-1]

    yield begin
    for head in running:
        head.stop(0)


@pytest.fixture
def head(start_head: Callable[..., RunningHead]) -> RunningHead:
    return start_head()


@pytest.fixture
def where(head: RunningHead) -> HeadConfig:
    return HeadConfig(address=f"127.0.0.1:{head.port}")


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Floats, Labels]:
    """50 examples, also in train.npz, evaluation.npz and inputs.npz, and encoder.safetensors beside them."""
    draw = np.random.default_rng(1)
    inputs, labels = draw.random((50, 1, 28, 28), dtype=np.float32), draw.integers(0, 3, 50)
    for name in ("train", "evaluation", "inputs"):
        np.savez(tmp_path / f"{name}.npz", x=inputs, y=labels)
    encoder, _ = build("strided28", (1, 28, 28), 3, 5).split(2)
    save_weights(encoder, tmp_path / "encoder.safetensors")
    return inputs, labels
