import gzip
import zlib
from typing import Any

import numpy as np
import pytest
from hyperframe.frame import ContinuationFrame, HeadersFrame, PingFrame, RstStreamFrame
from hypothesis import given
from hypothesis import strategies as st

from adversary.tap.decode.framing import MAX_MESSAGE, BrokenFramingError, Direction
from adversary.tap.decode.grpc import CallBroken, GrpcConnection, Message
from adversary.tap.decode.http2 import PREFACE, DataPiece, HeaderBlock, Http2Side, looks_like_server
from adversary.tap.decode.payload import Budget, ProtocolError, TooMuchWorkError


def play(pieces: Any, piece: Any = None, wanted: Any = lambda method: True) -> Any:
    connection = GrpcConnection(wanted)
    found: list[Message | CallBroken] = []
    for side, data in pieces:
        for start in range(0, len(data), piece or len(data)):
            part = data[start : start + (piece or len(data))]
            found += connection.feed(side == 0, 0.0, memoryview(part))
    for client in (True, False):
        found += connection.end(client, 1.0)
    return found


def body(message: Message) -> bytes:
    assert message.data is not None
    return bytes(message.data)


def bodies(found: Any) -> Any:
    return [(m.call, m.method, m.client, m.sequence, body(m)) for m in found if isinstance(m, Message)]


@pytest.mark.parametrize("piece", [None, 1, 2, 11, 64])
def test_messages_whatever_the_pieces(wire: Any, piece: int | None) -> None:
    http2 = wire.Http2()
    pieces = [
        *http2.opening(),
        *http2.unary(1, "/a/B", b"question", b""),
        *http2.unary(3, "/a/C", b"q" * 3000, b"answer"),
    ]
    assert bodies(play(pieces, piece)) == [
        (1, "/a/B", True, 0, b"question"),
        (1, "/a/B", False, 0, b""),
        (3, "/a/C", True, 0, b"q" * 3000),
        (3, "/a/C", False, 0, b"answer"),
    ]


def test_padding_pings_priority_and_continuation(wire: Any) -> None:
    http2 = wire.Http2()
    opening = http2.opening()
    _, request = http2.request(1, "/a/B")
    block = request[9:]
    first = HeadersFrame(1, block[:5])
    first.flags.add("PRIORITY")
    first.depends_on, first.stream_weight, first.exclusive = 0, 5, False
    rest = ContinuationFrame(1, block[5:], flags=["END_HEADERS"])
    body = wire.grpc_message(b"x" * 100)
    pieces = [*opening, (0, first.serialize() + rest.serialize() + PingFrame(0, b"12345678").serialize())]
    pieces += [(0, wire.data_frames(1, body, frame=30, pad=7, end=True))]
    assert bodies(play(pieces, 3)) == [(1, "/a/B", True, 0, b"x" * 100)]


@pytest.mark.parametrize("piece", [None, 4096])
def test_a_frame_of_more_than_64_kib(wire: Any, piece: int | None) -> None:
    # Servers may allow frames up to 16 MiB; a length has three bytes.
    http2 = wire.Http2()
    data = wire.grpc_message(b"z" * 200_000)
    pieces = [*http2.opening(), http2.request(1, "/a/B"), (0, wire.data_frames(1, data, frame=150_000, end=True))]
    assert bodies(play(pieces, piece)) == [(1, "/a/B", True, 0, b"z" * 200_000)]


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_messages(wire: Any, encoding: str, pack: Any) -> None:
    http2 = wire.Http2()
    data = wire.grpc_message(pack(b"hello" * 50), 1) + wire.grpc_message(b"plain")
    pieces = [*http2.opening(), http2.request(1, "/a/B", **{"grpc-encoding": encoding}), (0, wire.data_frames(1, data))]
    found = bodies(play(pieces))
    assert [(sequence, body) for *_, sequence, body in found] == [(0, b"hello" * 50), (1, b"plain")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x02\0\0\0\1x", "flag is 2"),
        (b"\x00" + (MAX_MESSAGE + 1).to_bytes(4), "claims"),
        (b"\x01\0\0\0\5hello", "unknown"),
    ],
)
def test_hostile_messages_end_their_call_alone(wire: Any, data: Any, reason: str) -> None:
    http2 = wire.Http2()
    pieces = [*http2.opening(), http2.request(1, "/a/B"), (0, wire.data_frames(1, data + b"\0" * 40, end=True))]
    pieces += http2.unary(3, "/a/C", b"fine", b"too")
    found = play(pieces)
    assert [(e.call, e.client) for e in found if isinstance(e, CallBroken)] == [(1, True)]
    assert reason in next(e.reason for e in found if isinstance(e, CallBroken))
    assert bodies(found) == [(3, "/a/C", True, 0, b"fine"), (3, "/a/C", False, 0, b"too")]


def test_a_gzip_bomb_is_refused(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adversary.tap.decode.framing.MAX_INFLATED", 10_000)
    http2 = wire.Http2()
    bomb = wire.grpc_message(gzip.compress(bytes(10_001)), 1)
    pieces = [*http2.opening(), http2.request(1, "/a/B", **{"grpc-encoding": "gzip"}), (0, wire.data_frames(1, bomb))]
    assert "over 10000 bytes" in next(e.reason for e in play(pieces) if isinstance(e, CallBroken))


def test_a_bomb_with_a_broken_end_costs_its_work_as_well(wire: Any) -> None:
    bomb, budget = bytearray(gzip.compress(bytes(60 << 20))), Budget()
    bomb[-6] ^= 1

    def inflate() -> None:
        direction = Direction(budget)
        direction.encoding = "gzip"
        with pytest.raises(BrokenFramingError, match="is broken"):
            list(direction.feed(memoryview(wire.grpc_message(bytes(bomb), 1)), True))

    inflate()
    inflate()
    with pytest.raises(TooMuchWorkError):
        inflate()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 17])
@pytest.mark.parametrize("filling", ["zeros", "random"])
def test_long_messages_are_inflated_whole(wire: Any, size: int, filling: str) -> None:
    content = bytes(size) if filling == "zeros" else np.random.default_rng(0).bytes(size)
    direction = Direction()
    direction.encoding = "gzip"
    (found,) = direction.feed(memoryview(wire.grpc_message(gzip.compress(content, 1), 1)), True)
    assert found[1] == content


@pytest.mark.parametrize("kept", [12, 100, -9, -1])
def test_a_compressed_message_without_its_end_is_refused(wire: Any, kept: int) -> None:
    packed = gzip.compress(np.random.default_rng(0).bytes(1000))
    direction = Direction()
    direction.encoding = "gzip"
    with pytest.raises(BrokenFramingError, match="cut off"):
        list(direction.feed(memoryview(wire.grpc_message(packed[:kept], 1)), True))


def test_unfinished_messages_of_many_calls_are_bounded_together(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adversary.tap.decode.payload.MAX_UNFINISHED", 5000)
    http2, budget = wire.Http2(), Budget()
    connection = GrpcConnection(budget=budget)
    pieces = http2.opening()
    for stream in range(1, 41, 2):
        pieces += [http2.request(stream, "/a/B"), (0, wire.data_frames(stream, wire.grpc_message(bytes(900))[:-1]))]
    found = [event for side, data in pieces for event in connection.feed(side == 0, 0.0, memoryview(data))]
    assert len(found) == 15 and all(isinstance(event, CallBroken) and "unfinished" in event.reason for event in found)
    assert budget.held <= 5000
    for client in (True, False):
        list(connection.end(client, 0.0))
    assert budget.held == 0


def test_calls_that_never_end_are_bounded(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adversary.tap.decode.grpc.MAX_CALLS", 3)
    http2, connection = wire.Http2(), GrpcConnection()
    pieces = [*http2.opening(), *(http2.request(stream, "/a/B") for stream in range(1, 41, 2))]
    for side, data in pieces:
        assert list(connection.feed(side == 0, 0.0, memoryview(data))) == []
    assert len(connection._calls) == 3


def test_a_response_that_the_capture_shows_first_waits_for_its_method(wire: Any) -> None:
    http2 = wire.Http2()
    exchange = [*http2.opening(), *http2.unary(1, "/a/B", b"question", b"answer")]
    swapped = [p for p in exchange if p[0] == 1] + [p for p in exchange if p[0] == 0]
    assert sorted(bodies(play(swapped))) == sorted(bodies(play(exchange)))


def test_responses_whose_requests_were_not_captured_have_no_method(wire: Any) -> None:
    http2 = wire.Http2()
    exchange = [p for p in [*http2.opening(), *http2.unary(1, "/a/B", b"question", b"answer")] if p[0] == 1]
    assert bodies(play(exchange)) == [(1, "", False, 0, b"answer")]


def test_unwanted_methods_are_counted(wire: Any) -> None:
    http2 = wire.Http2()
    found = play([*http2.opening(), *http2.unary(1, "/a/B", b"question", b"")], wanted=lambda method: False)
    assert [(m.method, m.client, m.size, m.data) for m in found] == [("/a/B", True, 8, None), ("/a/B", False, 0, None)]


def test_http2_that_is_not_grpc_is_one_message_a_direction(wire: Any) -> None:
    http2 = wire.Http2()
    pieces = [
        *http2.opening(),
        http2.headers(0, 1, [(":method", "POST"), (":path", "/x"), ("content-type", "text/html")]),
    ]
    pieces += [(0, wire.data_frames(1, b"<p>" * 500, end=True))]
    assert [(m.method, m.size, m.data) for m in play(pieces)] == [("/x", 1500, None)]


def test_reset_ends_a_call_and_its_unfinished_message_is_told_at_the_end(wire: Any) -> None:
    http2 = wire.Http2()
    half = wire.data_frames(1, wire.grpc_message(b"x" * 100)[:50])
    pieces = [*http2.opening(), http2.request(1, "/a/B"), (0, half)]
    assert [e.reason for e in play(pieces)] == ["ends 55 bytes before a message's end"]
    pieces.append((0, RstStreamFrame(1, 8).serialize()))
    assert play(pieces) == []


def test_a_broken_header_block_says_that_the_recording_must_start_with_the_connection(wire: Any) -> None:
    http2 = wire.Http2()
    http2.request(1, "/a/B")
    _, later = http2.request(3, "/a/B")
    side = Http2Side(client=False)
    with pytest.raises(ProtocolError, match="start with the connection"):
        list(side.feed(memoryview(later)))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n" + bytes(30),
        PREFACE + b"\xff\xff\xff\x04\0\0\0\0\0",
        PREFACE + HeadersFrame(1, b"\x82").serialize() + PingFrame(0).serialize(),
        PREFACE + ContinuationFrame(1, b"\x82", flags=["END_HEADERS"]).serialize(),
    ],
)
def test_broken_connections_are_refused(data: Any) -> None:
    with pytest.raises(ProtocolError):
        list(Http2Side(client=True).feed(memoryview(data)))


@given(st.booleans(), st.lists(st.binary(max_size=60), max_size=8))
def test_random_bytes_raise_only_protocol_errors(preface: Any, parts: Any) -> None:
    side, connection = Http2Side(client=False), GrpcConnection()
    parts = [PREFACE, *parts] if preface else parts
    for decoder in (side.feed, lambda data: connection.feed(True, 0.0, data)):
        try:
            for part in parts:
                list(decoder(memoryview(part)))
        except ProtocolError:
            pass


frame = st.builds(
    lambda kind, flags, stream, body: len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body,
    st.integers(0, 11),
    st.integers(0, 255),
    st.integers(0, 3),
    st.binary(max_size=50),
)


@given(st.lists(st.tuples(st.booleans(), frame), max_size=12))
def test_random_frames_raise_only_protocol_errors(frames: Any) -> None:
    connection = GrpcConnection()
    list(connection.feed(True, 0.0, memoryview(PREFACE)))
    lost = set()
    for client, data in frames:
        if client not in lost:
            try:
                list(connection.feed(client, 0.0, memoryview(data)))
            except ProtocolError:
                lost.add(client)
    for client in (True, False):
        list(connection.end(client, 0.0))


def test_data_passes_without_a_copy(wire: Any) -> None:
    side = Http2Side(client=False)
    whole = memoryview(wire.data_frames(1, b"abc" * 100, frame=500))
    (event,) = side.feed(whole)
    assert isinstance(event, DataPiece) and event.data.obj is whole.obj


def test_a_servers_settings_are_recognised(wire: Any) -> None:
    http2 = wire.Http2()
    assert looks_like_server(http2.opening()[1][1])
    assert looks_like_server(b"\0\0") is None
    assert not looks_like_server(b"\0\0\5\4\0\0\0\0\0")
    (event,) = Http2Side(client=False).feed(memoryview(http2.response(1)[1]))
    assert isinstance(event, HeaderBlock) and (":status", "200") in event.headers


def test_an_answer_without_a_content_type_is_counted(wire: Any) -> None:
    http2 = wire.Http2()
    pieces = [*http2.opening(), http2.headers(0, 1, [(":method", "GET"), (":path", "/x")], end=True)]
    pieces += [http2.headers(1, 1, [(":status", "103")]), http2.headers(1, 1, [(":status", "200")])]
    pieces += [(1, wire.data_frames(1, b"<html></html>"[:12], end=True))]
    assert [(m.method, m.client, m.size, m.data) for m in play(pieces)] == [("/x", False, 12, None)]


def test_an_answer_to_grpc_is_grpc_also_without_a_content_type(wire: Any) -> None:
    http2 = wire.Http2()
    pieces = [*http2.opening(), http2.request(1, "/a/B"), http2.headers(1, 1, [(":status", "200")])]
    pieces += [(1, wire.data_frames(1, wire.grpc_message(b"answer"), end=True))]
    assert bodies(play(pieces)) == [(1, "/a/B", False, 0, b"answer")]


def test_many_small_calls_are_no_bomb(wire: Any) -> None:
    http2, budget = wire.Http2(), Budget()
    connection = GrpcConnection(budget=budget)
    pieces = http2.opening()
    for stream in range(1, 12_001, 2):
        pieces += http2.unary(stream, "/a/B", b"?", b"!")
    for side, data in pieces:
        # What a packet of this size earns.
        budget.earn(len(data) + 56)
        list(connection.feed(side == 0, 0.0, memoryview(data)))
    assert budget._work > 1 << 19


def test_a_long_path_is_shortened(wire: Any) -> None:
    http2 = wire.Http2()
    found = play([*http2.opening(), *http2.unary(1, "/" + "a" * 5000, b"question", b"")])
    assert [len(one.method) for one in found] == [1024, 1024]
