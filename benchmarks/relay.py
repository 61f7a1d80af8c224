"""Time of SplitHead calls through the relay, as a ratio to direct calls: `python benchmarks/relay.py`.

Server, relay and client are separate processes. Every round times direct calls, relayed calls and direct calls again,
so that other load on the machine affects all three. The ratio is the median over rounds. Each round has a new relay
and capture. A virtual machine's first use of a page of memory costs ten times the write itself; the pages of a capture
that was just deleted are reused.
"""

from __future__ import annotations

import json
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from wireleak.common.wire import bind, channel_options, decode_tensor, encode_tensor, open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire import split_head_pb2_grpc as rpc

# name, bytes of the tensor, calls a measurement, ratio allowed
SIZES = (("8 KB", 8 << 10, 200, 1.15), ("1 MB", 1 << 20, 25, 1.25), ("11 MB", 11 << 20, 4, 1.35))
ROUNDS = 9


class Echo(rpc.SplitHeadServicer):
    """A head whose prediction is the activation itself."""

    def Predict(self, request_iterator: Iterator[pb.PredictRequest], context: Any) -> Iterator[pb.PredictResponse]:  # noqa: N802
        """Send back the tensor of every request."""
        for request in request_iterator:
            values = decode_tensor(request.activation)
            yield pb.PredictResponse(sequence=request.sequence, prediction=encode_tensor(values))

    Describe = Train = None  # type: ignore[assignment]


class Caller:
    """One open Predict stream."""

    def __init__(self, address: str) -> None:
        self._channel = open_channel(address)
        self._requests: queue.SimpleQueue[pb.PredictRequest | None] = queue.SimpleQueue()
        self._responses = iter(rpc.SplitHeadStub(self._channel).Predict(iter(self._requests.get, None)))

    def seconds(self, values: np.ndarray[Any, Any], calls: int) -> float:
        """Return the mean time of a call."""
        start = time.perf_counter()
        for sequence in range(calls):
            self._requests.put(pb.PredictRequest(sequence=sequence, activation=encode_tensor(values)))
            decode_tensor(next(self._responses).prediction)
        return (time.perf_counter() - start) / calls

    def close(self) -> None:
        """End the stream cleanly."""
        self._requests.put(None)
        list(self._responses)
        self._channel.close()


@contextmanager
def server() -> Iterator[str]:
    """Run the echoing server as a process; yield its address."""
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


@contextmanager
def relay(upstream: str, folder: Path) -> Iterator[str]:
    """Run the relay as a process; yield its address."""
    capture, ready, config = folder / "link.pcap", folder / "ready.json", folder / "config.json"
    link = {"name": "link", "listen": "127.0.0.1:0", "upstream": upstream, "capture": str(capture)}
    config.write_text(json.dumps({"links": [link], "ready": str(ready)}))
    command = [sys.executable, "-m", "adversary", "relay", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield json.loads(ready.read_text())["links"]["link"]
        finally:
            process.terminate()
            process.wait()
            capture.unlink(missing_ok=True)


def ratio(upstream: str, folder: Path, size: int, calls: int) -> float:
    """Return the median ratio of a call's time with the relay to without it, for tensors of `size` bytes."""
    values = np.zeros(size // 4, np.float32)
    direct = Caller(upstream)
    ratios = []
    for _ in range(ROUNDS):
        with relay(upstream, folder) as address:
            relayed = Caller(address)
            for caller in (direct, relayed):
                caller.seconds(values, max(2, calls // 4))
            before, through, after = (caller.seconds(values, calls) for caller in (direct, relayed, direct))
            ratios.append(2 * through / (before + after))
            relayed.close()
    direct.close()
    return statistics.median(ratios)


def run() -> list[dict[str, Any]]:
    """Return one row per size: name, ratio, target (the largest ratio allowed), unit."""
    rows: list[dict[str, Any]] = []
    with server() as upstream, tempfile.TemporaryDirectory(prefix="wireleak-bench-") as folder:
        for name, size, calls, target in SIZES:
            value = round(ratio(upstream, Path(folder), size, calls), 3)
            rows.append({"name": f"relay, {name} calls", "ratio": value, "target": target, "unit": "x direct"})
    return rows


def serve() -> None:
    """Serve echoes until stdin closes."""
    echo = grpc.server(futures.ThreadPoolExecutor(8), options=channel_options())
    rpc.add_SplitHeadServicer_to_server(Echo(), echo)
    port = bind(echo, "127.0.0.1:0")
    echo.start()
    print(f"127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    echo.stop(None)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        for row in run():
            print(f"{row['name']:20} {row['ratio']:6.3f} {row['unit']} (at most {row['target']})")
