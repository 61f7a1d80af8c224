"""Throughput of decoding a capture, as a ratio to tshark's on the same file in the same run; and of `wireleak inspect`.

The capture holds 400 messages of one `Predict` call: 200 activations of 1 MiB up and 200 predictions down, in HTTP/2
frames of 16 KiB and loopback segments. Both programs run on one core; CPU time is compared, because wall
time on a shared machine also measures other programs. The time to start tshark is subtracted.
"""

from __future__ import annotations

import resource
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import hpack
import numpy as np
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

from adversary.tap.decode.http2 import PREFACE
from adversary.tap.decode.read import events
from adversary.tap.inspect.command import inspect
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

MESSAGES, PORT, FRAME = 200, 50051, 16384
# Largest packet on a loopback link, as captured by tcpdump or the relay.
SEGMENT = 65495
LOOPBACK = bytes([127, 0, 0, 1])
LISTING, TENSORS, INSPECT = 5, 8, 2


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder) / "capture.pcap", Path(folder) / "small.pcap"
        write_capture(path, MESSAGES)
        write_capture(small, 1)
        size = path.stat().st_size
        listing = _best(lambda: sum(1 for _ in events([path], tensors=False)))
        tensors = _best(lambda: sum(1 for _ in events([path])))
        whole = _best(lambda: len(inspect([path])))
        rows = [
            {"name": "list messages", "ratio": size / listing / 1e6, "target": "-", "unit": "MB/s"},
            {"name": "decode tensors", "ratio": size / tensors / 1e6, "target": "-", "unit": "MB/s"},
            {
                "name": "inspect",
                "ratio": whole / listing,
                "target": f"<= {INSPECT}",
                "unit": "x the CPU time of listing",
            },
        ]
        if shutil.which("tshark"):
            tshark = _tshark(path) - _tshark(small)
            unit = f"x tshark's throughput ({size / tshark / 1e6:.0f} MB/s)"
            rows += [
                {"name": "list messages", "ratio": tshark / listing, "target": f">= {LISTING}", "unit": unit},
                {"name": "decode tensors", "ratio": tshark / tensors, "target": f">= {TENSORS}", "unit": unit},
            ]
        return rows


def write_capture(path: Path, messages: int) -> None:
    """Write one `Predict` call of `messages` requests, each with as many responses."""
    rng = np.random.default_rng(0)
    activation = rng.standard_normal((16, 64, 16, 16), dtype=np.float32)
    prediction = encode_tensor(rng.random((16, 2), dtype=np.float32))
    with path.open("wb") as file:
        writer = _Writer(file)
        for side, piece in _opening():
            writer.send(side, piece)
        for number in range(messages):
            request = pb.PredictRequest(sequence=number, activation=encode_tensor(activation + number))
            response = pb.PredictResponse(sequence=number, prediction=prediction)
            writer.send(0, _frames(request.SerializeToString()))
            writer.send(1, _frames(response.SerializeToString()))


class _Writer:
    """A pcap of one TCP connection, as raw IPv4 packets."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._next = [1, 1]
        self._clock = 0
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101))
        self._packet(0, 0x02, b"", sequence=0)
        self._packet(1, 0x12, b"", sequence=0)

    def send(self, side: int, data: bytes) -> None:
        for start in range(0, len(data), SEGMENT):
            piece = data[start : start + SEGMENT]
            self._packet(side, 0x18, piece, self._next[side])
            self._next[side] += len(piece)

    def _packet(self, side: int, flags: int, data: bytes, sequence: int) -> None:
        ports = (40000, PORT) if side == 0 else (PORT, 40000)
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(data), 0, 0x4000, 64, 6, 0, LOOPBACK, LOOPBACK)
        tcp = struct.pack(">HHIIBBHHH", *ports, sequence, self._next[1 - side], 5 << 4, flags, 65535, 0, 0)
        self._clock += 10
        seconds, microseconds = divmod(self._clock, 10**6)
        size = 40 + len(data)
        self._file.write(struct.pack("<IIII", 1_700_000_000 + seconds, microseconds, size, size) + ip + tcp + data)


def _opening() -> Iterator[tuple[int, bytes]]:
    request = [(":method", "POST"), (":scheme", "http"), (":path", "/wireleak.v1.SplitHead/Predict")]
    request += [(":authority", "head"), ("te", "trailers"), ("content-type", "application/grpc")]
    response = [(":status", "200"), ("content-type", "application/grpc")]
    yield 0, PREFACE + SettingsFrame(0).serialize() + _headers(request)
    yield 1, SettingsFrame(0).serialize() + _headers(response)


def _headers(headers: list[tuple[str, str]]) -> bytes:
    return HeadersFrame(1, hpack.Encoder().encode(headers), flags=["END_HEADERS"]).serialize()


def _frames(message: bytes) -> bytes:
    data = b"\0" + len(message).to_bytes(4) + message
    return b"".join(DataFrame(1, data[start : start + FRAME]).serialize() for start in range(0, len(data), FRAME))


def _best(work: Callable[[], int], times: int = 3) -> float:
    """Return the least CPU seconds of a few runs."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def _tshark(path: Path) -> float:
    """Return the CPU seconds that tshark takes to list the gRPC messages."""
    command = ["tshark", "-n", "-r", str(path), "-d", f"tcp.port=={PORT},http2", "-Y", "grpc"]
    command += ["-T", "fields", "-e", "frame.time_epoch", "-e", "grpc.message_length"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not listed.strip():
        raise RuntimeError("tshark saw no gRPC message")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']:16} {row['ratio']:8.2f} {row['unit']}  (target {row['target']})")
