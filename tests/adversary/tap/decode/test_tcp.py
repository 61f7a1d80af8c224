from typing import Any

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adversary.tap.decode import tcp
from adversary.tap.decode.packets.ip import ACK, SYN, Segment, segment
from adversary.tap.decode.packets.pcap import Packet


def parsed(packet: bytes, time: float = 0.0, link: int = 101) -> Segment:
    found = segment(Packet(time, link, memoryview(packet), len(packet)))
    assert found is not None
    return found


def play(packets: Any, link: Any = 101) -> Any:
    """Bytes of every (stream, side), and how each ended; side 0 is the one on port 40000."""
    reassembler = tcp.Reassembler()
    data: dict[Any, bytes] = {}
    ends: dict[Any, tuple[str, bool]] = {}

    def take(events: Any) -> None:
        for event in events:
            key = event.stream.index, int(not event.stream.endpoints[event.side].endswith(":40000"))
            if isinstance(event, tcp.Chunk):
                assert key not in ends
                data[key] = data.get(key, b"") + bytes(event.data)
            else:
                assert key not in ends
                ends[key] = event.reason, event.broken

    for number, packet in enumerate(packets):
        take(reassembler.feed(parsed(packet, number / 1000, link)))
    take(reassembler.finish())
    return data, ends


PIECES = [(0, bytes(range(256)) * 9), (1, b"answer" * 300), (0, b"more" * 500)]
UP, DOWN = b"".join(d for s, d in PIECES if s == 0), b"".join(d for s, d in PIECES if s == 1)


def test_in_order(wire: Any) -> None:
    data, ends = play(wire.conversation(PIECES))
    assert data == {(0, 0): UP, (0, 1): DOWN}
    assert ends == {(0, 0): ("closed", False), (0, 1): ("closed", False)}


@given(st.data())
def test_any_order_with_duplicates(wire: Any, data: Any) -> None:
    packets = wire.conversation(PIECES, segment=200)
    # One SYN may come late, not both.
    late = data.draw(st.sampled_from([0, 1]))
    order = [1 - late, *data.draw(st.permutations([late, *range(2, len(packets))]))]
    again = data.draw(st.lists(st.sampled_from(range(len(packets))), max_size=10))
    data, ends = play([packets[k] for k in [*order, *again]])
    assert data == {(0, 0): UP, (0, 1): DOWN}
    assert not any(broken for _, broken in ends.values())


@given(st.integers(1, 3000), st.lists(st.tuples(st.integers(0, len(UP) - 1), st.integers(1, 800)), max_size=20))
def test_overlapping_retransmissions(wire: Any, size: Any, overlaps: Any) -> None:
    packets = wire.conversation([(0, UP)], segment=size, ends=False)
    for number, (start, length) in enumerate(overlaps):
        extra = wire.ipv4(wire.CLIENT, wire.SERVER, 101 + start, 0, 16, UP[start : start + length])
        packets.insert(3 + (number * 7) % len(packets), extra)
    data, _ = play(packets)
    assert data[0, 0] == UP


@given(st.data())
def test_a_lost_segment_ends_its_direction_and_no_other(wire: Any, data: Any) -> None:
    packets = wire.conversation(PIECES, segment=300)
    carrying = [k for k, packet in enumerate(packets) if len(packet) > 40]
    gone = data.draw(st.sampled_from(carrying))
    side = 0 if packets[gone][15] == 1 else 1
    data, ends = play(packets[:gone] + packets[gone + 1 :])
    whole = (UP, DOWN)[side]
    assert whole.startswith(data.get((0, side), b"")) and len(data.get((0, side), b"")) < len(whole)
    assert ends[0, side] == (f"{len(packets[gone]) - 40} bytes are missing from the capture", True)
    assert data[0, 1 - side] == (UP, DOWN)[1 - side]
    assert ends[0, 1 - side] == ("closed", False)


def test_a_lost_last_segment_is_noticed_without_a_fin(wire: Any) -> None:
    packets = wire.conversation([(0, b"a" * 100)], segment=60, ends=False)
    packets.append(wire.ipv4(wire.SERVER, wire.CLIENT, 2**32 - 49, 201, 16))
    del packets[4]
    _, ends = play(packets)
    assert ends[0, 0] == ("39 bytes are missing from the capture", True)


def test_a_stream_without_its_beginning(wire: Any) -> None:
    packets = wire.conversation([(0, UP), (1, DOWN)])[5:]
    data, ends = play(packets)
    assert UP.endswith(data[0, 0]) and len(data[0, 0]) == len(UP) - 2000
    assert data[0, 1] == DOWN
    assert not ends[0, 0][1]


def test_without_a_syn_bytes_come_at_once_and_in_the_order_of_both_directions(wire: Any) -> None:
    packets = wire.conversation([(0, b"first"), (1, b"answer"), (0, b"second"), (1, b"again")], ends=False)[3:]
    reassembler, order = tcp.Reassembler(), []
    for number, packet in enumerate(packets):
        for event in reassembler.feed(parsed(packet, number / 1000)):
            assert isinstance(event, tcp.Chunk)
            order.append((number, bytes(event.data)))
    assert order == [(1, b"first"), (1, b"answer"), (2, b"second"), (3, b"again")]


def test_without_a_syn_a_direction_that_nobody_acknowledges_is_read_within_seconds(wire: Any) -> None:
    packets = [packet for packet in wire.conversation([(0, UP)], ends=False)[3:] if packet[15] == 1]
    reassembler = tcp.Reassembler()
    read = [
        len(event.data)
        for number, packet in enumerate(packets)
        for event in reassembler.feed(parsed(packet, number * 0.6))
        if isinstance(event, tcp.Chunk)
    ]
    assert read == [1000] * 4 + [len(UP) - 4000]


@given(st.permutations(range(4)))
def test_without_a_syn_segments_that_come_after_their_acknowledgement_are_put_in_order(wire: Any, order: Any) -> None:
    """A mirror port that copies one direction late: the receiver's acknowledgement is captured first."""
    packets = [packet for packet in wire.conversation([(0, UP)], ends=False)[3:] if packet[15] == 1][:4]
    acknowledgement = wire.ipv4(wire.SERVER, wire.CLIENT, 500, 101 + len(UP), 16)
    data, ends = play([acknowledgement, *(packets[place] for place in order)])
    assert data == {(0, 0): UP[: sum(len(packet) - 40 for packet in packets)]}
    assert ends[0, 1] == ("capture ends", False)


def test_a_probe_before_the_capture_of_a_stream_is_no_data(wire: Any) -> None:
    conversation = wire.conversation([(0, b"lost"), (1, b"x"), (0, b"kept"), (1, b"y")], ends=False)[4:]
    probe = wire.ipv4(wire.CLIENT, wire.SERVER, 104, 0, 16, b"\0")
    data, _ = play([conversation[0], probe, *conversation[1:]])
    assert data == {(0, 0): b"kept", (0, 1): b"xy"}


def test_sequence_numbers_wrap(wire: Any) -> None:
    data, _ = play(wire.conversation([(0, UP), (1, DOWN)], isn=(2**32 - 1000, 2**32 - 1)))
    assert data == {(0, 0): UP, (0, 1): DOWN}


def test_reset_ends_both_directions(wire: Any) -> None:
    packets = wire.conversation([(0, b"abc")], ends=False)
    packets.append(wire.ipv4(wire.SERVER, wire.CLIENT, 2**32 - 49, 104, 4))
    data, ends = play(packets)
    assert data == {(0, 0): b"abc"}
    assert ends == {(0, 0): ("reset", False), (0, 1): ("reset", False)}


def reset_after(wire: Any, ahead: int, before: int = 1) -> Any:
    """A connection of three requests; before the last comes a RST whose number is `ahead` of the next."""
    packets = wire.conversation([(0, b"one"), (1, b"1"), (0, b"two"), (1, b"2"), (0, b"three")], ends=False)
    reset = wire.ipv4(wire.CLIENT, wire.SERVER, 107 + ahead, 0, tcp.RST)
    return play([*packets[:-before], reset, *packets[-before:]])


@pytest.mark.parametrize("ahead", [-1, -70_000, 65_536, 1_000_000, 2**31 - 200])
def test_a_reset_outside_the_window_is_ignored_as_its_receiver_ignores_it(wire: Any, ahead: int) -> None:
    data, ends = reset_after(wire, ahead)
    assert data == {(0, 0): b"onetwothree", (0, 1): b"12"}
    assert ends == {(0, 0): ("capture ends", False), (0, 1): ("capture ends", False)}


def test_a_reset_inside_the_window_that_is_not_next_ends_nothing_while_bytes_follow(wire: Any) -> None:
    data, ends = reset_after(wire, 5000)
    assert data[0, 0] == b"onetwothree"
    assert ends[0, 0] == ("reset", False)


def test_a_reset_at_the_next_number_ends_both_directions_and_later_bytes_are_not_read(wire: Any) -> None:
    data, ends = reset_after(wire, 0)
    assert data == {(0, 0): b"onetwo", (0, 1): b"12"}
    assert ends == {(0, 0): ("reset", False), (0, 1): ("reset", False)}


def test_a_reset_that_overtakes_the_last_bytes_ends_the_stream_after_them(wire: Any) -> None:
    data, ends = reset_after(wire, 5)
    assert data[0, 0] == b"onetwothree" and ends[0, 1] == ("reset", False)


def test_bytes_of_a_reset_count(wire: Any) -> None:
    packets = wire.conversation([(0, b"abc")], ends=False)
    packets.append(wire.ipv4(wire.CLIENT, wire.SERVER, 104, 2**32 - 49, tcp.RST | ACK, b"why not"))
    data, ends = play(packets)
    assert data == {(0, 0): b"abcwhy not"} and ends[0, 0] == ("reset", False)


def test_a_refused_connection_is_reset(wire: Any) -> None:
    refused = [wire.ipv4(wire.CLIENT, wire.SERVER, 99, 0, SYN), wire.ipv4(wire.SERVER, wire.CLIENT, 0, 100, 20)]
    assert set(play(refused)[1].values()) == {("reset", False)}


def test_the_window_scale_of_both_syns_widens_the_window(wire: Any) -> None:
    def syn(source: Any, target: Any, sequence: int, flags: int) -> bytes:
        part = dpkt.tcp.TCP(sport=source[1], dport=target[1], seq=sequence, flags=flags, opts=b"\x01\x03\x03\x07")
        part.off = 6
        made = dpkt.ip.IP(src=b"\x0a\0\0\1", dst=b"\x0a\0\0\2", p=6, data=part)
        made.src, made.dst = (made.src, made.dst) if source == wire.CLIENT else (made.dst, made.src)
        made.len = len(made)
        return bytes(made)

    packets = wire.conversation([(0, b"one")], ends=False)
    packets[0] = syn(wire.CLIENT, wire.SERVER, 100, SYN)
    packets[1] = syn(wire.SERVER, wire.CLIENT, 2**32 - 50, SYN | ACK)
    # The server's first segment states its window.
    packets.append(wire.ipv4(wire.SERVER, wire.CLIENT, 2**32 - 49, 104, ACK))
    for ahead, reason in ((65535 * 128, "reset"), (65535 * 128 + 1, "capture ends")):
        reset = wire.ipv4(wire.CLIENT, wire.SERVER, 104 + ahead, 0, tcp.RST)
        assert play([*packets, reset])[1][0, 0] == (reason, False)


@pytest.mark.parametrize("ends", [True, False])
def test_the_same_ports_again_are_another_stream(wire: Any, ends: bool) -> None:
    first = wire.conversation([(0, b"first")], ends=ends)
    second = wire.conversation([(0, b"second"), (1, b"two")], isn=(900_000, 5))
    data, _ = play([*first, first[0], *second])
    assert data == {(0, 0): b"first", (1, 0): b"second", (1, 1): b"two"}


def test_what_is_held_is_bounded(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "MAX_HELD", 5000)
    monkeypatch.setattr(tcp, "OVERHEAD", 0)
    packets = wire.conversation([(0, b"x" * 20_000)], ends=False)
    del packets[3]
    reassembler = tcp.Reassembler()
    ended = []
    for number, packet in enumerate(packets):
        events = reassembler.feed(parsed(packet, float(number)))
        ended += [event for event in events if isinstance(event, tcp.Ended)]
        assert reassembler._held <= 6000
    assert [(event.reason, event.broken) for event in ended] == [("1000 bytes are missing from the capture", True)]


def test_many_streams_are_forgotten_oldest_first(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "MAX_STREAMS", 50)
    reassembler = tcp.Reassembler()
    ended = 0
    for port in range(1000, 1400):
        packet = wire.ipv4(("10.0.0.1", port), wire.SERVER, 1, 0, 2)
        events = reassembler.feed(parsed(packet))
        ended += sum(
            isinstance(event, tcp.Ended) and event.reason == "more than 50 streams at once" for event in events
        )
        assert len(reassembler._sides) <= 102
    assert ended > 500


def test_a_connection_of_a_port_to_itself_ends_whole(wire: Any) -> None:
    reassembler = tcp.Reassembler()
    ended = []
    for number in range(50):
        packet = wire.ipv4(wire.CLIENT, wire.CLIENT, number * 10_000_000, 0, SYN)
        ended += [event.stream.index for event in reassembler.feed(parsed(packet)) if isinstance(event, tcp.Ended)]
    assert sorted(ended) == sorted(list(range(49)) * 2)
    assert len(reassembler._sides) == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300), st.integers(0, 63), st.binary(max_size=40)), max_size=60))
def test_random_segments_never_raise(wire: Any, segments: Any) -> None:
    packets = []
    for up, sequence, flags, payload in segments:
        ends = (wire.CLIENT, wire.SERVER) if up else (wire.SERVER, wire.CLIENT)
        packets.append(wire.ipv4(*ends, sequence, sequence, flags, payload))
    reassembler = tcp.Reassembler()
    for packet in packets:
        for _ in reassembler.feed(parsed(packet)):
            pass
    list(reassembler.finish())
    assert reassembler._held == 0


def test_data_in_the_segment_that_opens_the_connection(wire: Any) -> None:
    # TCP Fast Open: the SYN takes a number of its own, before its data.
    first = wire.ipv4(wire.CLIENT, wire.SERVER, 99, 0, SYN, b"early")
    data, _ = play([first, wire.ipv4(wire.CLIENT, wire.SERVER, 105, 1, ACK, b"later")])
    assert data == {(0, 0): b"earlylater"}
