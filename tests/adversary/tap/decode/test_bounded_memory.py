"""Memory is bounded by the largest message, whatever the capture's size."""

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

METHOD = "/wireleak.v1.SplitHead/Predict"
MEASURE = """
import resource, sys
from adversary.tap.decode.read import observations, traffic
count = total = 0
for observation in observations([sys.argv[1]]):
    count += 1
    total += observation.tensor.nbytes
print(count, total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write(wire: Any, path: Any, messages: Any, lose: Any = False) -> Any:
    """A Predict call of 1 MiB activations; with `lose`, a second stream whose first bytes are missing."""
    http2 = wire.Http2()
    request = pb.PredictRequest(activation=encode_tensor(np.zeros((4, 16, 64, 64), np.float32)))
    frames = wire.data_frames(1, wire.grpc_message(request.SerializeToString()), frame=16384)
    opening = [data for side, data in [*http2.opening(), http2.request(1, METHOD)] if side == 0]
    sequences = {40000: 1, 40001: 1001 if lose else 1}
    with path.open("wb") as file:
        file.write(wire.pcap([wire.ipv4(("127.0.0.1", port), wire.SERVER, 0, 0, wire.SYN) for port in sequences]))

        def send(port: Any, data: Any) -> None:
            packet = wire.ipv4(("127.0.0.1", port), wire.SERVER, sequences[port], 0, wire.ACK, data)
            file.write(struct.pack("<IIII", 1_700_000_001, 0, len(packet), len(packet)) + packet)
            sequences[port] += len(data)

        for data in opening:
            send(40000, data)
        for _ in range(messages):
            for start in range(0, len(frames), 65000):
                send(40000, frames[start : start + 65000])
                if lose:
                    send(40001, frames[start : start + 16384])
    return path


def measure(path: Any) -> Any:
    """Observations, their bytes and the peak memory in MiB."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], check=True, capture_output=True, text=True)
    count, total, peak = map(int, done.stdout.split())
    return count, total, peak / 1024


@pytest.mark.parametrize("messages", [300, pytest.param(2048, marks=pytest.mark.study)])
def test_memory_does_not_grow_with_the_capture(wire: Any, tmp_path: Path, messages: int) -> None:
    small = measure(write(wire, tmp_path / "small.pcap", 3))
    large = measure(write(wire, tmp_path / "large.pcap", messages))
    (tmp_path / "large.pcap").unlink()
    assert (small[0], large[0]) == (3, messages)
    assert large[1] == messages << 20
    assert large[2] - small[2] < 16, f"{small[2]:.0f} MiB for 3 MB, {large[2]:.0f} MiB for {messages} MB"


def test_a_gap_holds_a_bounded_window(wire: Any, tmp_path: Path) -> None:
    small = measure(write(wire, tmp_path / "small.pcap", 3))
    lossy = measure(write(wire, tmp_path / "lossy.pcap", 200, lose=True))
    assert lossy[0] == 200
    assert lossy[2] - small[2] < 32
