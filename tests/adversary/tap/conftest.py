"""Makes captures from nothing: packets, TCP conversations, gRPC calls, all as byte strings."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hpack
import numpy as np
import pytest
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

from adversary.tap.decode.http2 import PREFACE
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 50051)
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def ipv4(source: Any, destination: Any, sequence: Any, acknowledged: Any, flags: Any, payload: Any = b"") -> Any:
    """One IPv4 packet with a TCP segment."""
    tcp = struct.pack(
        ">HHIIBBHHH", source[1], destination[1], sequence % 2**32, acknowledged % 2**32, 5 << 4, flags, 65535, 0, 0
    )
    addresses = bytes(map(int, source[0].split("."))) + bytes(map(int, destination[0].split(".")))
    total = 40 + len(payload)
    return struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0x4000, 64, 6, 0) + addresses + tcp + payload


def ipv6(
    source: Any,
    destination: Any,
    sequence: Any,
    acknowledged: Any,
    flags: Any,
    payload: Any = b"",
    extension: Any = b"",
) -> Any:
    """One IPv6 packet between ::1 addresses with the ports of source and destination."""
    tcp = struct.pack(">HHIIBBHHH", source[1], destination[1], sequence, acknowledged, 5 << 4, flags, 65535, 0, 0)
    loopback = bytes(15) + b"\1"
    upper = extension + tcp + payload
    return struct.pack(">IHBB", 6 << 28, len(upper), 0 if extension else 6, 64) + loopback * 2 + upper


def conversation(
    pieces: Any,
    *,
    segment: Any = 1000,
    client: Any = CLIENT,
    server: Any = SERVER,
    isn: Any = (100, 2**32 - 50),
    ends: Any = True,
) -> Any:
    """The IP packets of one connection that carries `pieces`, a list of (side, bytes)."""
    ends_of = (client, server)
    position = [isn[0] + 1, isn[1] + 1]
    packets = [ipv4(client, server, isn[0], 0, SYN), ipv4(server, client, isn[1], position[0], SYN | ACK)]
    packets.append(ipv4(client, server, position[0], position[1], ACK))
    for side, data in pieces:
        for start in range(0, len(data), segment):
            part = data[start : start + segment]
            me, peer = ends_of[side], ends_of[1 - side]
            packets.append(ipv4(me, peer, position[side], position[1 - side], PSH | ACK, part))
            position[side] += len(part)
    if ends:
        for side in (0, 1):
            me, peer = ends_of[side], ends_of[1 - side]
            packets.append(ipv4(me, peer, position[side], position[1 - side], FIN | ACK))
            position[side] += 1
    return packets


def pcap(
    packets: Any,
    *,
    link: Any = 101,
    order: Any = "<",
    nanoseconds: Any = False,
    start: Any = 1_700_000_000,
    snap: Any = None,
) -> bytes:
    """A capture file; packet k was captured k milliseconds after `start`, or give (time, bytes) pairs."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link)]
    scale = 10**6 if nanoseconds else 10**3
    for number, packet in enumerate(packets):
        kept = packet[:snap]
        seconds, milliseconds = divmod(number, 1000)
        parts.append(struct.pack(order + "IIII", start + seconds, milliseconds * scale, len(kept), len(packet)) + kept)
    return b"".join(parts)


def grpc_message(data: Any, compressed: Any = 0) -> Any:
    return bytes([compressed]) + len(data).to_bytes(4) + data


def data_frames(stream: Any, data: Any, *, frame: Any = 700, end: Any = False, pad: Any = 0) -> bytes:
    frames = []
    for start in range(0, max(len(data), 1), frame):
        made = DataFrame(stream, data[start : start + frame])
        if pad:
            made.flags.add("PADDED")
            made.pad_length = pad
        if end and start + frame >= len(data):
            made.flags.add("END_STREAM")
        frames.append(made.serialize())
    return b"".join(frames)


class Http2:
    """Writes both sides of an HTTP/2 connection."""

    def __init__(self) -> None:
        self._encoders = (hpack.Encoder(), hpack.Encoder())

    def opening(self) -> Any:
        return [(0, PREFACE + SettingsFrame(0).serialize()), (1, SettingsFrame(0).serialize())]

    def headers(self, side: Any, stream: Any, headers: Any, end: Any = False) -> Any:
        flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
        return side, HeadersFrame(stream, self._encoders[side].encode(headers), flags=flags).serialize()

    def request(self, stream: Any, method: Any, **more: Any) -> Any:
        fixed = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "x")]
        fixed += [("te", "trailers"), ("content-type", "application/grpc")]
        return self.headers(0, stream, fixed + list(more.items()))

    def response(self, stream: Any, **more: Any) -> Any:
        more = {name.replace("_", "-"): value for name, value in more.items()}
        return self.headers(1, stream, [(":status", "200"), ("content-type", "application/grpc"), *more.items()])

    def trailers(self, stream: Any) -> Any:
        return self.headers(1, stream, [("grpc-status", "0")], end=True)

    def unary(self, stream: Any, method: Any, request: Any, response: Any) -> Any:
        pieces = [self.request(stream, method), (0, data_frames(stream, grpc_message(request), end=True))]
        pieces += [self.response(stream), (1, data_frames(stream, grpc_message(response))), self.trailers(stream)]
        return pieces


def split_head(messages: Any = 3, *, seed: Any = 0, shape: Any = (2, 3, 5)) -> Any:
    """A Predict and a Train call, interleaved on one connection, and the tensors that they carry, in order.

    Returns
    -------
    tuple
        Pieces for `conversation`, and a set of (kind, client, call's HTTP/2 stream, sequence, bytes).
    """
    rng = np.random.default_rng(seed)
    http2 = Http2()
    predict, train = "/wireleak.v1.SplitHead/Predict", "/wireleak.v1.SplitHead/Train"
    pieces = [
        *http2.opening(),
        http2.request(1, predict),
        http2.request(3, train),
        http2.response(1),
        http2.response(3),
    ]
    sent = []

    def send(side: Any, stream: Any, sequence: Any, message: Any) -> None:
        pieces.append((side, data_frames(stream, grpc_message(message.SerializeToString()), frame=150)))
        for field, tensor in message.ListFields():
            if field.name != "sequence" and field.type == field.TYPE_MESSAGE:
                kind = field.name.replace("_", "-")
                sent.append((kind, side == 0, stream, sequence, tuple(tensor.shape), tensor.data))

    for k in range(messages):
        activation = encode_tensor(rng.standard_normal(shape, dtype=np.float32))
        send(0, 1, k, pb.PredictRequest(sequence=k, activation=activation))
        label = encode_tensor(rng.integers(0, 2, shape[0]))
        send(0, 3, k, pb.TrainRequest(sequence=k, activation=activation, label=label))
        send(1, 3, k, pb.TrainResponse(sequence=k, activation_gradient=activation, loss=1.0))
        send(1, 1, k, pb.PredictResponse(sequence=k, prediction=encode_tensor(rng.random((2, 2), dtype=np.float32))))
    pieces += [http2.trailers(1), http2.trailers(3)]
    return pieces, sent


def seen(observations: Any) -> Any:
    """Observations in the form of `split_head`'s list."""
    return [
        (
            o.kind.value,
            o.sender == f"{CLIENT[0]}:{CLIENT[1]}",
            int(o.call.rsplit("/", 1)[1]),
            o.sequence,
            o.tensor.shape,
            o.tensor.tobytes(),
        )
        for o in observations
    ]


# The kernel's count of a process's peak memory survives exec, so it would be this process's: VmHWM does not.
_MEASURE = """
import contextlib, io, json, sys, time
from pathlib import Path
from adversary.tap.inspect.command import main
with contextlib.redirect_stdout(io.StringIO()):
    rc = main([Path(sys.argv[1])], as_json=True)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"rc": rc, "mib": int(peak) / 1024, "seconds": time.process_time()}))
"""


def cost_of(path: Path) -> dict[str, Any]:
    """Exit status, peak memory in MiB and CPU seconds of `inspect` in a process of its own."""
    command = [sys.executable, "-c", _MEASURE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    return dict(json.loads(done.stdout.splitlines()[-1]))


class Wire(SimpleNamespace):
    def __repr__(self) -> Any:
        return "wire"


@pytest.fixture(scope="session")
def wire() -> Any:
    """Every function of this file."""
    return Wire(**{name: value for name, value in globals().items() if not name.startswith("_")})
