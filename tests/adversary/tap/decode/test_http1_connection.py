from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adversary.tap.decode.grpc import CallBroken, Message
from adversary.tap.decode.http1 import Http1Connection
from adversary.tap.decode.payload import ProtocolError

REQUESTS = (
    b"POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
    b"POST /v1/fleet/pull-object HTTP/1.1\r\nhost: x\r\n"
    b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
)
RESPONSES = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwxyz\r\n0\r\n\r\n"
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end"
)
EXPECTED = [
    (0, "/v1/fleet/push-object", True, b"hello"),
    (0, "/v1/fleet/push-object", False, b"ok"),
    (1, "/v1/fleet/pull-object", True, b"abcde"),
    (1, "/v1/fleet/pull-object", False, b"wxyz"),
    (2, "/health", True, b""),
    (2, "/health", False, b"until the end"),
]


def body(message: Message) -> bytes:
    assert message.data is not None
    return bytes(message.data)


def play(pieces: Any, size: Any, ends: Any = (True, False)) -> Any:
    connection = Http1Connection(lambda path: True)
    found: list[Message | CallBroken] = []
    for client, data in pieces:
        for start in range(0, len(data), size):
            found += connection.feed(client, 0.0, memoryview(data[start : start + size]))
    for client in ends:
        found += connection.end(client, 1.0)
    assert not any(isinstance(event, CallBroken) for event in found)
    return sorted((m.call, m.method, m.client, body(m)) for m in found if isinstance(m, Message))


@pytest.mark.parametrize("size", [1, 10, 10_000])
@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_exchanges_whatever_the_pieces_and_which_side_is_seen_first(size: int, order: Any) -> None:
    sides = {True: REQUESTS, False: RESPONSES}
    assert play([(client, sides[client]) for client in order], size) == sorted(EXPECTED)


def test_unwanted_bodies_are_counted() -> None:
    connection = Http1Connection(lambda path: False)
    found = list(connection.feed(True, 0.0, memoryview(REQUESTS)))
    messages = [event for event in found if isinstance(event, Message)]
    assert len(messages) == len(found)
    assert [(m.size, m.data) for m in messages] == [(5, None), (5, None), (0, None)]


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=8), st.booleans())
def test_random_bytes_raise_only_protocol_errors(parts: Any, good_start: Any) -> None:
    connection = Http1Connection(lambda path: True)
    parts = [(True, REQUESTS), (False, RESPONSES), *parts] if good_start else parts
    lost = set()
    for client, data in parts:
        if client not in lost:
            try:
                list(connection.feed(client, 0.0, memoryview(data)))
            except ProtocolError:
                lost.add(client)
    for client in (True, False):
        list(connection.end(client, 0.0))


def test_an_upgrade_to_http2_is_followed_and_answered_in_stream_1(wire: Any) -> None:
    from adversary.tap.decode.connection import Connection
    from tests.fuzz.seeds import seeds

    pieces = seeds()["h2c"]
    for size in (1, 7, 10_000):
        connection = Connection(lambda path: True)
        found: list[Any] = []
        for side, data in pieces:
            for start in range(0, len(data), size):
                found += connection.feed(side, 0.0, memoryview(data[start : start + size]))
        for side in (0, 1):
            found += connection.end(side, 1.0)
        messages = [(one.method, one.client, one.size) for one in found if isinstance(one, Message)]
        assert messages == [("/", True, 0), ("/", False, 3), ("/a/B", True, 8), ("/a/B", False, 6)]
        assert len(found) == 5


def test_a_declined_upgrade_and_another_protocol(wire: Any) -> None:
    ask = b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: %b\r\n\r\n"
    plain = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    found = play([(True, ask % b"h2c"), (False, plain), (True, ask % b"h2c"), (False, plain)], 10_000)
    assert {(call, client) for call, _, client, _ in found} == {(0, True), (0, False), (1, True), (1, False)}
    with pytest.raises(ProtocolError, match="switches to websocket, which is not decoded"):
        play([(True, ask % b"websocket"), (False, b"HTTP/1.1 101 Go\r\nupgrade: websocket\r\n\r\n\x81\2hi")], 10_000)
