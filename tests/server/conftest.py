"""A head in this process, and what a device needs to speak to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from flwr.supercore.task_identity import TaskIdentity

from server.config import ServerConfig
from server.head import RunningHead, start
from wireleak.common.wire import encode_tensor, open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

MODEL: dict[str, Any] = {"name": "strided28", "input_shape": [1, 28, 28], "classes": 3, "cut": 2, "seed": 5}


@pytest.fixture(autouse=True)
def task_identity() -> None:
    """Flower's messages can only be made inside a task of a run."""
    TaskIdentity.task_id = TaskIdentity.run_id = 1
    TaskIdentity.node_id = 1


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A server config as its JSON holds it."""
    return {
        "model": dict(MODEL),
        "plan": {"mode": "split", "rounds": 2, "learning_rate": 0.002, "timeout": 20},
        "address": "127.0.0.1:0",
        "ready": str(tmp_path / "ready.json"),
        "max_batch": 64,
        "clients": 2,
        "checkpoints": str(tmp_path / "checkpoints"),
        "history": str(tmp_path / "history.json"),
    }


@pytest.fixture
def start_head(settings: dict[str, Any]) -> Iterator[Callable[..., RunningHead]]:
    """Start heads that the test's end stops."""
    running: list[RunningHead] = []

    def begin(**changes: Any) -> RunningHead:
        running.append(start(ServerConfig.model_validate(settings | changes)))
        return running[-1]

    yield begin
    for head in running:
        head.stop(0)


@pytest.fixture
def head(start_head: Callable[..., RunningHead]) -> RunningHead:
    return start_head()


@pytest.fixture
def stub(head: RunningHead) -> Iterator[SplitHeadStub]:
    with open_channel(f"127.0.0.1:{head.port}") as channel:
        yield SplitHeadStub(channel)


@pytest.fixture
def train_request() -> Callable[..., pb.TrainRequest]:
    """Make a good training message for cut 2, with any field replaced."""

    def make(sequence: int = 0, seed: int = 0, batch: int = 4, **changes: Any) -> pb.TrainRequest:
        draw = np.random.default_rng(seed)
        fields = {
            "activation": encode_tensor(draw.random((batch, 32, 7, 7), dtype=np.float32)),
            "label": encode_tensor(draw.integers(0, 3, batch)),
        }
        return pb.TrainRequest(sequence=sequence, **fields | changes)

    return make


@pytest.fixture
def failure() -> Callable[[Callable[[], Any]], tuple[grpc.StatusCode, str]]:
    """Call something that must fail, and return the status."""

    def status(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        details = caught.value.details()
        assert details is not None
        return caught.value.code(), details

    return status
