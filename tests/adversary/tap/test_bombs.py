"""Captures that ask for much work or memory with few bytes: at most 512 MiB, and about 10 CPU seconds for 10 MB."""

import gzip
import hashlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.proto import fleet_pb2, message_pb2

from adversary.tap.decode.events import CallEnded
from adversary.tap.decode.observation import Observation
from adversary.tap.decode.payload import Budget, TooMuchWorkError
from adversary.tap.decode.read import GrowingCapture

SIZE = 1_000_000
PREDICT, FLEET = "/wireleak.v1.SplitHead/Predict", "/flwr.proto.Fleet/"


def numbered(make: Callable[[int], bytes], size: int) -> bytes:
    """Frames of `size` bytes, each of a new stream."""
    return b"".join(make(2 * k + 3) for k in range(SIZE // size))


def one_call(wire: Any, body: bytes, method: str = "/a/B") -> Any:
    http2 = wire.Http2()
    return wire.conversation([*http2.opening(), http2.request(1, method), (0, body)], segment=60_000)


def frames(wire: Any, data: bytes) -> bytes:
    return bytes(wire.data_frames(1, data, frame=16384))


def length(data: bytes) -> bytes:
    """A protobuf length and its bytes."""
    size, out = len(data), bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size]) + data


DENSE: dict[str, Callable[[Any], Any]] = {
    "empty messages": lambda w: one_call(w, frames(w, bytes(SIZE))),
    "empty tensors": lambda w: one_call(w, frames(w, b"\0\0\0\0\2\x12\0" * (SIZE // 7)), PREDICT),
    "empty objects": lambda w: one_call(w, frames(w, b"\0\0\0\0\2\x22\0" * (SIZE // 7)), FLEET + "PushObject"),
    "empty frames": lambda w: one_call(w, b"\0\0\0\0\0\0\0\0\1" * (SIZE // 9)),
    "settings": lambda w: one_call(w, b"\0\0\0\4\0\0\0\0\0" * (SIZE // 9)),
    "padded frames": lambda w: one_call(w, b"\0\0\1\0\x08\0\0\0\1\0" * (SIZE // 10)),
    "new streams": lambda w: one_call(w, numbered(lambda k: b"\0\0\1\0\0" + k.to_bytes(4) + b"\0", 10)),
    "headers": lambda w: one_call(w, numbered(lambda k: b"\0\0\3\1\5" + k.to_bytes(4) + b"\x82\x84\x86", 12)),
    "many headers": lambda w: one_call(w, numbered(lambda k: b"\0\x03\xe8\1\4" + k.to_bytes(4) + b"\x82" * 1000, 1009)),
    "a tree": lambda w: one_call(
        w, frames(w, w.grpc_message(b"\x12\0\x1a" + length(b"\x12\0" * (SIZE // 2)))), FLEET + "PushMessages"
    ),
    "announcements": lambda w: one_call(
        w, frames(w, w.grpc_message(b"\x12\0\x1a\0" * (SIZE // 4))), FLEET + "PushMessages"
    ),
    "paddings": lambda w: one_call(w, frames(w, w.grpc_message(b"\x7a\0" * (SIZE // 2))), PREDICT),
    "requests": lambda w: w.conversation([(0, b"GET / HTTP/1.1\r\nhost:x\r\n\r\n" * (SIZE // 26))], segment=60_000),
    "chunks": lambda w: w.conversation(
        [(0, b"POST / HTTP/1.1\r\nhost:x\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (SIZE // 6))],
        segment=60_000,
    ),
    "connections": lambda w: [w.ipv4((f"10.0.0.{k % 250}", 1 + k), w.SERVER, 1, 0, 2) for k in range(SIZE // 56)],
    "late frames": lambda w: w.conversation([(0, b"\0\0\4\x08\0\0\0\0\1\0\0\0\1\xff" * (SIZE // 14))])[3:],
}


@pytest.mark.study
@pytest.mark.parametrize("name", DENSE)
def test_dense_captures_take_time_in_proportion_to_their_bytes(wire: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / "dense.pcap"
    path.write_bytes(wire.pcap(DENSE[name](wire)))
    cost = wire.cost_of(path)
    # The start of the process, and what any capture may cost; other programs on the machine may double it.
    assert cost["rc"] == 0 and cost["mib"] < 512 and cost["seconds"] < 3 + 2 * SIZE / 1e6, cost


def large(wire: Any, name: str) -> Iterator[bytes]:
    if name == "streams":
        for k in range(16_383):
            yield wire.ipv4(("10.0.0.1", 1 + k), wire.SERVER, 1, 0, wire.SYN)
        for k in range(6000):
            yield from wire.conversation([(0, b"hello")], client=("10.0.0.2", 1000 + k))
    elif name == "held":
        yield wire.ipv4(wire.CLIENT, wire.SERVER, 0, 0, wire.SYN)
        for k in range(200_000):
            yield wire.ipv4(wire.CLIENT, wire.SERVER, 5001 + 2 * k, 0, wire.ACK, b"x")
        for k in range(1000):
            yield wire.ipv4(wire.CLIENT, wire.SERVER, 1 + k, 0, wire.ACK, b"y")
    else:
        for k in range(300_000):
            yield wire.ipv4(wire.CLIENT, wire.CLIENT, k * 7_919_000, 0, wire.SYN)


@pytest.mark.study
@pytest.mark.parametrize("name", ["streams", "held", "to itself"])
def test_floods_of_connections_and_segments(wire: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / "flood.pcap"
    with path.open("wb") as file:
        file.write(wire.pcap([]))
        for packet in large(wire, name):
            file.write(struct.pack("<IIII", 1_700_000_000, 0, len(packet), len(packet)) + packet)
    cost = wire.cost_of(path)
    assert cost["rc"] == 0 and cost["mib"] < 512 and cost["seconds"] < 3 + 2 * path.stat().st_size / 1e6, cost


def test_a_compressed_capture_that_grows_without_bound_is_read_in_part(
    wire: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adversary.tap.decode.packets.capture._GROWS", 1 << 20)
    from adversary.tap.inspect.command import inspect

    packet = wire.ipv4(wire.CLIENT, wire.SERVER, 1, 0, wire.ACK, bytes(60_000))
    path = tmp_path / "bomb.pcap.gz"
    path.write_bytes(gzip.compress(wire.pcap([packet] * 200)))
    (note,) = inspect([path])["notes"]
    assert "grows more than 100-fold" in note


def test_an_array_of_one_chunk_named_a_thousand_times_is_refused_and_work_is_counted(wire: Any) -> None:
    budget = Budget()
    with pytest.raises(TooMuchWorkError):
        for _ in range(1000):
            budget.expand(1 << 20)

    described = b'{"dtype":"float32","shape":[1],"stype":"numpy.ndarray","arraychunk_ids":[' + b"0," * 999 + b"0]}"
    contents: list[bytes] = []
    tree, parent = None, ""
    for kind, body in (
        ("ArrayChunk", bytes(400_000)),
        ("Array", described),
        ("ArrayRecord", b'{"w": "%s"}'),
        ("RecordDict", b"{}"),
        ("Message", b""),
    ):
        body = body.replace(b"%s", parent.encode())
        contents.append(f"{kind} {parent} {len(body)}".encode() + b"\0" + body)
        parent = hashlib.sha256(contents[-1]).hexdigest()
        tree = message_pb2.ObjectTree(object_id=parent, children=[tree] if tree else [])
    assert tree is not None
    announced = fleet_pb2.PushMessagesRequest(messages_list=[message_pb2.Message()], message_object_trees=[tree])
    http2 = wire.Http2()
    pieces = [*http2.opening(), *http2.unary(1, FLEET + "PushMessages", announced.SerializeToString(), b"")]
    for number, content in enumerate(contents):
        request = message_pb2.PushObjectRequest(object_content=content).SerializeToString()
        pieces += http2.unary(2 * number + 3, FLEET + "PushObject", request, b"")
    capture = GrowingCapture("x.pcap")
    events = [*capture.feed(wire.pcap(wire.conversation(pieces, segment=60_000))), *capture.finish()]
    (reason,) = [one.reason for one in events if isinstance(one, CallEnded)]
    assert "an array is over" in reason and not any(isinstance(one, Observation) for one in events)
