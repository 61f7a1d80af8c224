"""Captures that start in the middle of a connection."""

from collections import Counter
from typing import Any

import pytest

from adversary.tap.decode.events import CallEnded, MessageSeen, StreamEnded, StreamSeen, Transport
from adversary.tap.decode.late import Seeker
from adversary.tap.decode.observation import Observation
from adversary.tap.decode.payload import Budget
from adversary.tap.decode.read import Event, GrowingCapture
from adversary.tap.inspect.summary import Summary
from tests.fuzz.seeds import seeds


def read(wire: Any, packets: Any) -> list[Event]:
    capture = GrowingCapture("link.pcap")
    return [*capture.feed(wire.pcap(packets)), *capture.finish()]


def late(wire: Any, pieces: Any, **options: Any) -> list[Event]:
    """The events of a conversation whose SYN packets were not captured."""
    return read(wire, wire.conversation(pieces, **options)[3:])


def tensors(wire: Any, events: list[Event]) -> Counter[Any]:
    # Without the sequence number, which counts from the start of the capture.
    seen = wire.seen(one for one in events if isinstance(one, Observation))
    return Counter((*row[:3], *row[4:]) for row in seen)


def faults(events: list[Event]) -> list[str]:
    broken = [one.reason for one in events if isinstance(one, StreamEnded) and one.broken]
    return broken + [one.reason for one in events if isinstance(one, CallEnded)]


@pytest.mark.parametrize("skipped", [6, 7, 8, 9, 12, 13, 14])
@pytest.mark.parametrize("segment", [1000, 97])
def test_every_message_after_the_start_is_decoded_and_marked_as_inferred(wire: Any, skipped: int, segment: int) -> None:
    pieces, _ = wire.split_head(4)
    # The pieces before the first message are two of settings and four of headers; a message is one piece.
    expected = tensors(wire, read(wire, wire.conversation(pieces)))
    for side, data in pieces[6:skipped]:
        before = tensors(wire, read(wire, wire.conversation([*pieces[:6], (side, data)])))
        expected -= before
    events = late(wire, pieces[skipped:], segment=segment)
    assert tensors(wire, events) == expected and expected
    (stream,) = [one for one in events if isinstance(one, StreamSeen)]
    assert (stream.transport, stream.late, stream.client) == (Transport.HTTP2, True, "10.0.0.1:40000")
    assert all(one.inferred for one in events if isinstance(one, Observation | MessageSeen))
    assert faults(events) == []


@pytest.mark.parametrize("cut", [1, 30, 200, 500])
def test_a_start_inside_a_frame_costs_only_the_messages_that_it_cuts(wire: Any, cut: int) -> None:
    pieces, _ = wire.split_head(5)
    up = b"".join(data for side, data in pieces[6:] if side == 0)
    events = late(wire, [(0, up[cut:])], segment=100)
    expected = tensors(wire, read(wire, wire.conversation([*pieces[:6], (0, up)])))
    found = tensors(wire, events)
    assert found <= expected and sum(found.values()) >= sum(expected.values()) - 6


def test_calls_that_begin_later_have_their_names_and_others_are_inferred(wire: Any) -> None:
    http2 = wire.Http2()
    first, second = ("/wireleak.v1.SplitHead/Predict", "/some.Service/Call")
    pieces, _ = wire.split_head(1)
    message = next(data for side, data in pieces if side == 0 and data[3] == 0 and data[8] == 1)[9 + 5 :]
    http2.request(1, first)
    later = [*http2.unary(3, first, message, b""), *http2.unary(5, second, b"question", b"answer")]
    events = late(wire, later)
    methods = {(one.method, one.inferred) for one in events if isinstance(one, MessageSeen)}
    # The name of the first was sent before, so the table has no entry for it; the second's is new.
    assert methods == {(first, True), (second, False)}
    assert (
        Summary().add(events).as_dict()["faults"][0].startswith("link.pcap#0: the start of the connection is missing")
    )


def test_pushed_objects_of_flower_are_recognised_by_their_own_sums(wire: Any) -> None:
    pieces = seeds()["fleet"]
    opened = next(k for k, (side, data) in enumerate(pieces) if side == 0 and data[3] == 0)
    # From the first request's message on: its headers, and so the names of all calls of that kind, are gone.
    events = late(wire, pieces[opened:])
    names = {one.method for one in events if isinstance(one, MessageSeen) and one.client}
    assert names == {"/flwr.proto.Fleet/PushMessages", "/flwr.proto.Fleet/PushObject"}
    assert [one.name for one in events if isinstance(one, Observation)] == ["w"]


def test_http1_is_read_from_its_next_request_on(wire: Any) -> None:
    pieces = seeds()["fleet over http/1.1"]
    # The rest of a body, and the answer to it, belong to a request that was not captured.
    before = [(0, b"\0\1\2 rest of a body"), (1, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")]
    events = late(wire, [*before, *pieces])
    assert [one.name for one in events if isinstance(one, Observation)] == ["w"]
    (stream,) = [one for one in events if isinstance(one, StreamSeen)]
    assert (stream.transport, stream.late) == (Transport.HTTP1, True)
    answers = [one.method for one in events if isinstance(one, MessageSeen) and not one.client]
    assert answers == ["/v1/fleet/push-messages"] + ["/v1/fleet/push-object"] * 6


def test_tls_is_recognised_by_its_records(wire: Any) -> None:
    record = bytes([23, 3, 3, 0, 40]) + bytes(range(40))
    events = late(wire, [(0, record[7:] + record * 4), (1, record * 2)])
    (stream,) = [one for one in events if isinstance(one, StreamSeen)]
    assert (stream.transport, stream.late) == (Transport.TLS, True) and faults(events) == []


@pytest.mark.parametrize("data", [bytes(100_000), bytes(range(256)) * 400, b"\0\0\x80\x3f" * 20_000, b"text, " * 9000])
def test_other_bytes_are_no_frames(wire: Any, data: bytes) -> None:
    events = late(wire, [(0, data), (1, b"answer of no protocol")])
    (stream,) = [one for one in events if isinstance(one, StreamSeen)]
    assert (stream.transport, stream.late) == (Transport.OTHER, False)
    assert not any(isinstance(one, MessageSeen) for one in events)


def test_what_is_held_while_seeking_is_bounded() -> None:
    budget = Budget()
    seeker = Seeker(budget)
    for _ in range(100):
        seeker.feed(b"\1" * 50_000)
        assert len(seeker._held) < 400_000


def test_a_connection_whose_start_was_captured_is_not_late_without_its_syn(wire: Any) -> None:
    pieces, sent = wire.split_head(2)
    events = late(wire, pieces)
    (stream,) = [one for one in events if isinstance(one, StreamSeen)]
    assert not stream.late and wire.seen(one for one in events if isinstance(one, Observation)) == sent
