"""Throughput of the head's Predict, as a ratio to bare gRPC with the head's forward pass on one core.

Head, echo and client are separate processes. The client sends the same bytes to each, serialised beforehand, over one
stream with a bounded window, so only the service differs. "Echo" sends each message back unread. "Short answers" sends
back as few bytes as the head does; no service that computes can be faster. Runs alternate, so that other load on the
machine affects all. A ratio is the median over rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch

from server.stage import HeadStage
from wireleak.common.head.link import HeadStream
from wireleak.common.models import ModelConfig
from wireleak.common.wire import bind, channel_options, encode_tensor, open_channel
from wireleak.common.wire import split_head_pb2 as pb

BATCH, CALLS, ROUNDS, WINDOW = 64, 60, 9, 8
SHAPE = (BATCH, 16, 14, 14)  # strided28 at cut 1: 3136 floats an example
SERVICE = "wireleak.v1.SplitHead"


def serve_bare(kind: str, ready: Path) -> None:
    """Serve until killed; both baselines are this process."""
    answer = pb.PredictResponse(
        sequence=1, prediction=encode_tensor(np.zeros((BATCH, 2), np.float32))
    ).SerializeToString()

    def reply(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            yield request if kind == "echo" else answer

    server = grpc.server(ThreadPoolExecutor(4), options=channel_options())
    handlers = {"Predict": grpc.stream_stream_rpc_method_handler(reply)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = bind(server, "127.0.0.1:0")
    server.start()
    ready.with_suffix(".new").write_text(json.dumps({"address": f"127.0.0.1:{port}"}))
    ready.with_suffix(".new").replace(ready)
    threading.Event().wait()


@contextmanager
def process(command: list[str], ready: Path) -> Iterator[str]:
    """Start a service, yield its address, and end it."""
    running = subprocess.Popen([sys.executable, *command], env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        while not ready.exists():
            if running.poll() is not None:
                raise RuntimeError(f"{command} ended with {running.returncode}")
            time.sleep(0.05)
        yield str(json.loads(ready.read_text())["address"])
    finally:
        running.kill()
        running.wait()


def seconds_a_call(channel: grpc.Channel, messages: list[bytes]) -> float:
    """Return the mean time of a call, with at most WINDOW calls in flight."""
    pending: deque[None] = deque()
    with HeadStream[bytes, bytes](channel.stream_stream(f"/{SERVICE}/Predict", _as_it_is, _as_it_is)) as stream:
        began = time.perf_counter()
        for message in messages:
            if len(pending) == WINDOW:
                pending.popleft()
                stream.receive()
            stream.send(message)
            pending.append(None)
        for _ in pending:
            stream.receive()
        return (time.perf_counter() - began) / len(messages)


def forward_seconds(stage: HeadStage, activation: np.ndarray[Any, Any]) -> float:
    """Return the mean time of only the head's forward pass, in this process, on one thread."""
    began = time.perf_counter()
    for _ in range(CALLS):
        stage.predict(activation)
    return (time.perf_counter() - began) / CALLS


def run() -> list[dict[str, Any]]:
    """Measure, and return one row per ratio."""
    torch.set_num_threads(1)
    stage = HeadStage(ModelConfig.model_validate(_model()), learning_rate=0.001)
    activation = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    tensor = encode_tensor(activation)
    messages = [pb.PredictRequest(sequence=i, activation=tensor).SerializeToString() for i in range(CALLS)]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        channels = {}
        for kind, command in _commands(folder).items():
            address = stack.enter_context(process(command, folder / f"{kind}.ready"))
            channels[kind] = stack.enter_context(open_channel(address))
            seconds_a_call(channels[kind], messages)
        rounds = []
        for _ in range(ROUNDS):
            rounds.append({kind: seconds_a_call(channel, messages) for kind, channel in channels.items()})
            rounds[-1]["forward"] = forward_seconds(stage, activation)
    middle = {kind: statistics.median(each[kind] for each in rounds) * 1e3 for kind in rounds[0]}
    what = f"Predict, {BATCH} x {activation[0].size} floats"

    def row(name: str, target: str, unit: str, ratio: Callable[[dict[str, float]], float]) -> dict[str, Any]:
        value = statistics.median(ratio(each) for each in rounds)
        return {"name": f"{what}: {name}", "ratio": value, "target": target, "unit": unit}

    echo, short = f"of {1e3 / middle['echo']:.0f} calls/s", f"of {1e3 / middle['short']:.0f} calls/s"
    middling = f"of {middle['head']:.2f} ms"
    return [
        row(
            "bare echo and forward pass / a call", ">= 0.90", middling, lambda t: (t["echo"] + t["forward"]) / t["head"]
        ),
        row("throughput / bare gRPC echo", "-", echo, lambda t: t["echo"] / t["head"]),
        row("throughput / bare gRPC, short answers", "-", short, lambda t: t["short"] / t["head"]),
        row("forward pass / a call", "-", middling, lambda t: t["forward"] / t["head"]),
    ]


def _as_it_is(message: bytes) -> bytes:
    return message


def _model() -> dict[str, Any]:
    return {"name": "strided28", "input_shape": [1, 28, 28], "classes": 2, "cut": 1}


def _commands(folder: Path) -> dict[str, list[str]]:
    config = folder / "server.json"
    paths = {"ready": "head.ready", "checkpoints": "checkpoints", "history": "history.json"}
    settings = {"model": _model(), "plan": {"mode": "federated"}, "clients": 1}
    config.write_text(json.dumps(settings | {name: str(folder / path) for name, path in paths.items()}))
    bare = [str(Path(__file__)), "serve"]
    return {
        "echo": [*bare, "echo", str(folder / "echo.ready")],
        "head": ["-m", "server", "head", "--config", str(config)],
        "short": [*bare, "short", str(folder / "short.ready")],
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve_bare(sys.argv[2], Path(sys.argv[3]))
    else:
        for row in run():
            print(row)
