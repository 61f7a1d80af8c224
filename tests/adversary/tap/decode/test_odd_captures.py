"""Captures as networks, tunnels and attackers make them: every tensor that crossed the wire is found, and no other."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from scapy.all import GRE, IP, TCP, UDP, Dot1Q, Ether, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.inet6 import IPv6ExtHdrFragment, IPv6ExtHdrRouting, fragment6
from scapy.layers.vxlan import VXLAN

from adversary.tap.decode.events import CallEnded, Note, StreamEnded
from adversary.tap.decode.observation import Observation
from adversary.tap.decode.read import events
from tests.adversary.tap import conftest as wire
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

CLIENT, SERVER = wire.CLIENT, wire.SERVER
PREDICT = "/wireleak.v1.SplitHead/Predict"
Sent = list[Any]
Made = tuple[bytes, Sent]


def talk(messages: int = 4, **options: Any) -> tuple[list[bytes], Sent]:
    """The packets of a connection, and the tensors that it carries."""
    pieces, sent = wire.split_head(messages)
    return wire.conversation(pieces, **options), sent


def calls(*frames: Callable[[int, bytes], Any], **more: str) -> Made:
    """A connection with one call for each function, which returns what the client sends of a message."""
    http2 = wire.Http2()
    pieces, sent = http2.opening(), []
    for number, made in enumerate(frames):
        stream, values = 2 * number + 1, encode_tensor(np.full(600, number, np.float32))
        sent.append(("activation", True, stream, 0, (600,), values.data))
        pieces += [http2.request(stream, PREDICT, **more), http2.response(stream)]
        pieces += made(stream, pb.PredictRequest(activation=values).SerializeToString())
        pieces += [(0, DataFrame(stream, b"", flags=["END_STREAM"]).serialize()), http2.trailers(stream)]
    return wire.pcap(wire.conversation(pieces)), sent


def plain(stream: int, message: bytes) -> Any:
    return [(0, wire.data_frames(stream, wire.grpc_message(message)))]


def backwards(packet: bytes) -> bool:
    return packet[12:16] == bytes([10, 0, 0, 2])


def six(packet: bytes, *extensions: Any) -> Any:
    """The packet's segment in IPv6."""
    source, destination = ("fd00::2", "fd00::1") if backwards(packet) else ("fd00::1", "fd00::2")
    made = IPv6(src=source, dst=destination)
    for extension in extensions:
        made = made / extension
    return made / TCP(packet[20:])


def forged(sequence: int, data: bytes = b"zz") -> bytes:
    return bytes(wire.ipv4(CLIENT, SERVER, sequence, 0, wire.RST, data))


def resets_without_a_syn() -> Made:
    """Before the stream's first bytes, and far ahead of them, where nothing tells which segment is the client's."""
    packets, sent = talk()
    rest = packets[3:]
    return wire.pcap([forged(1 << 31), *rest[:2], forged(3 << 30), *rest[2:9], forged(1 << 22), *rest[9:]]), sent


def resets_with_payloads() -> Made:
    packets, sent = talk()
    ahead, behind = forged(101 + 30_000, b"x" * 99), forged(50)
    return wire.pcap([*packets[:6], ahead, behind, *packets[6:]]), sent


def repeated_with_other_bytes() -> Made:
    packets, sent = talk(segment=300)
    return wire.pcap([one for p in packets for one in (p, p[:40] + b"\xff" * (len(p) - 40))]), sent


def a_minute_late() -> Made:
    packets, sent = talk(segment=200)
    late = packets.pop(next(at for at in range(8, len(packets)) if len(packets[at]) > 100))
    return wire.pcap(packets) + wire.pcap([late], start=1_700_000_060)[24:], sent


def probes_with_a_wrong_byte() -> Made:
    packets, sent = talk()
    out = []
    for packet in packets:
        me, peer = (SERVER, CLIENT) if backwards(packet) else (CLIENT, SERVER)
        last = int.from_bytes(packet[24:28]) + len(packet) - 41
        out += [packet, *([wire.ipv4(me, peer, last, 0, wire.ACK, b"\0")] if len(packet) > 40 else [])]
    return wire.pcap(out), sent


def one_side_only() -> Made:
    packets, sent = talk()
    return wire.pcap([one for one in packets if not backwards(one)]), [one for one in sent if one[1]]


def answers_before_requests() -> Made:
    packets, sent = talk()
    return wire.pcap(sorted(packets, key=lambda packet: not backwards(packet))), sent


def ports_used_again() -> Made:
    packets: list[bytes] = []
    sent: Sent = []
    for number in range(3):
        more, tensors = talk(isn=(1000 + number * 3000, 77 + number * 3000), ends=False)
        packets, sent = packets + more, sent + tensors
    return wire.pcap(packets), sent


def tags_in_vxlan_in_gre() -> Made:
    packets, sent = talk()
    outer = Ether() / Dot1Q(vlan=7) / Dot1Q(vlan=9) / IP(src="1.1.1.1", dst="2.2.2.2") / GRE() / IP() / UDP(dport=4789)
    return wire.pcap([bytes(outer / VXLAN() / Ether() / Dot1Q(vlan=3) / IP(p)) for p in packets], link=1), sent


def six_with_extensions() -> Made:
    packets, sent = talk()
    extensions = IPv6ExtHdrHopByHop(), IPv6ExtHdrRouting(), IPv6ExtHdrDestOpt()
    return wire.pcap([bytes(six(packet, *extensions)) for packet in packets]), sent


def six_in_fragments() -> Made:
    packets, sent = talk(segment=3000)
    parts: list[bytes] = []
    for number, packet in enumerate(packets):
        whole = six(packet, IPv6ExtHdrDestOpt(), IPv6ExtHdrFragment(id=number + 1))
        parts += [bytes(part) for part in reversed(fragment6(whole, 200))]
    return wire.pcap(parts), sent


def sections_of_both_byte_orders() -> Made:
    """Each with an unused interface, one in nanoseconds with an offset, and one in 1/1024 of a second."""
    packets, sent = talk()
    out = b""
    half = len(packets) // 2
    for order, part in (("<", packets[:half]), (">", packets[half:])):

        def block(kind: int, body: bytes, order: str = order) -> bytes:
            body += b"\0" * (-len(body) % 4)
            ends = struct.pack(order + "I", len(body) + 12)
            return struct.pack(order + "I", kind) + ends + body + ends

        out += block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
        out += block(1, struct.pack(order + "HHI", 147, 0, 0))
        options = struct.pack(order + "HHB3xHHqHH", 9, 1, 9, 14, 8, 1000, 0, 0)
        out += block(1, struct.pack(order + "HHI", 101, 0, 0) + options)
        out += block(1, struct.pack(order + "HHIHHB3x", 101, 0, 0, 9, 1, 0x80 | 10)) + block(0xBAD, b"custom")
        for number, packet in enumerate(part):
            at = 1_699_999_000 * 10**9 if number % 2 else 1_700_000_000 * 1024
            head = struct.pack(order + "IIIII", 2 - number % 2, at >> 32, at & 0xFFFFFFFF, len(packet), len(packet))
            out += block(6, head + packet)
    return out, sent


def members_of_gzip() -> Made:
    packets, sent = talk()
    data = wire.pcap(packets)
    return gzip.compress(data[:501]) + gzip.compress(b"") + gzip.compress(data[501:]), sent


def messages_in_members_of_gzip() -> Made:
    def packed(stream: int, message: bytes) -> Any:
        data = gzip.compress(message[:9]) + gzip.compress(message[9:])
        return [(0, wire.data_frames(stream, wire.grpc_message(data, 1)))]

    return calls(packed, plain, **{"grpc-encoding": "gzip"})


def deflate_without_a_header() -> Made:
    def packed(stream: int, message: bytes) -> Any:
        deflate = zlib.compressobj(wbits=-15)
        data = deflate.compress(message) + deflate.flush()
        return [(0, wire.data_frames(stream, wire.grpc_message(data, 1)))]

    return calls(packed, **{"grpc-encoding": "deflate"})


def pieces_between_other_frames() -> Made:
    def bytewise(stream: int, message: bytes) -> Any:
        other = WindowUpdateFrame(0, window_increment=1).serialize() + PriorityFrame(1, stream_weight=3).serialize()
        data = wire.grpc_message(message)
        return [(0, DataFrame(stream, data[at : at + 7]).serialize() + other) for at in range(0, len(data), 7)]

    return calls(bytewise, plain)


def a_flood_and_frames_that_nobody_knows() -> Made:
    def flooded(stream: int, message: bytes) -> Any:
        flood = PriorityFrame(9, stream_weight=1).serialize() + PingFrame(0, opaque_data=b"x" * 8).serialize()
        flood += SettingsFrame(0).serialize() + b"\0\0\5\xbb\xff\0\0\0\1hello"
        data = bytearray(wire.data_frames(stream, wire.grpc_message(message)))
        data[5] |= 0x80  # the reserved bit
        return [(0, flood * 500), (1, flood * 500 + AltSvcFrame(0, origin=b"x", field=b"y").serialize()), (0, data)]

    return calls(flooded)


def goaway_before_more_calls() -> Made:
    def warned(stream: int, message: bytes) -> Any:
        return [(1, GoAwayFrame(0, last_stream_id=stream).serialize()), *plain(stream, message)]

    return calls(warned, warned, warned)


def a_call_that_the_server_resets() -> Made:
    """The rest of the client's message is under way by then, and crosses the wire."""

    def reset(stream: int, message: bytes) -> Any:
        data = wire.grpc_message(message)
        first, rest = wire.data_frames(stream, data[:900]), wire.data_frames(stream, data[900:])
        return [(0, first), (1, RstStreamFrame(stream, error_code=8).serialize()), (0, rest)]

    return calls(reset, plain)


def header_tables_of_other_sizes() -> Made:
    http2 = wire.Http2()
    pieces, sent = http2.opening(), []
    for number, size in enumerate((4096, 0, 65536, 100, 0)):
        stream, values = 2 * number + 1, encode_tensor(np.full(6, number, np.float32))
        settings = SettingsFrame(0, settings={1: size}).serialize()
        pieces.append((1, settings))
        http2._encoders[0].header_table_size = size
        pieces += [http2.request(stream, PREDICT, **{f"x-{number}": "y" * number * 30}), http2.response(stream)]
        pieces += [*plain(stream, pb.PredictRequest(activation=values).SerializeToString()), http2.trailers(stream)]
        sent.append(("activation", True, stream, 0, (6,), values.data))
    return wire.pcap(wire.conversation(pieces)), sent


def headers_byte_by_byte() -> Made:
    http2 = wire.Http2()
    names = [(":method", "POST"), (":path", PREDICT), ("content-type", "application/grpc+proto"), ("pad", "x" * 300)]
    block, values = http2._encoders[0].encode(names), encode_tensor(np.ones(6, np.float32))
    first = HeadersFrame(1, block[:1], flags=["PRIORITY", "PADDED"], pad_length=200, stream_weight=7).serialize()
    rest = [ContinuationFrame(1, block[at : at + 1]) for at in range(1, len(block))]
    rest[-1].flags.add("END_HEADERS")
    data = wire.data_frames(1, wire.grpc_message(pb.PredictRequest(activation=values).SerializeToString()), pad=255)
    pieces = [*http2.opening(), (0, first + b"".join(frame.serialize() for frame in rest)), (0, data)]
    return wire.pcap(wire.conversation(pieces)), [("activation", True, 1, 0, (6,), values.data)]


def an_answer_of_trailers_before_the_request_ends() -> Made:
    http2 = wire.Http2()
    values = encode_tensor(np.ones(6, np.float32))
    refused = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")]
    pieces = [*http2.opening(), http2.request(1, PREDICT), http2.headers(1, 1, [(":status", "103")])]
    pieces += [
        http2.headers(1, 1, refused, end=True),
        *plain(1, pb.PredictRequest(activation=values).SerializeToString()),
    ]
    return wire.pcap(wire.conversation(pieces)), [("activation", True, 1, 0, (6,), values.data)]


CASES = [
    *(resets_without_a_syn, resets_with_payloads, repeated_with_other_bytes, a_minute_late, probes_with_a_wrong_byte),
    *(one_side_only, answers_before_requests, ports_used_again, tags_in_vxlan_in_gre, six_with_extensions),
    *(six_in_fragments, sections_of_both_byte_orders, members_of_gzip, messages_in_members_of_gzip),
    *(deflate_without_a_header, pieces_between_other_frames, a_flood_and_frames_that_nobody_knows),
    *(goaway_before_more_calls, a_call_that_the_server_resets, header_tables_of_other_sizes, headers_byte_by_byte),
    an_answer_of_trailers_before_the_request_ends,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_every_tensor_is_found(case: Callable[[], Made], tmp_path: Path) -> None:
    data, sent = case()
    path = tmp_path / "odd.pcap"
    path.write_bytes(data)
    found = list(events([path]))
    # IPv6 has other addresses, so the side that sent a tensor is not compared.
    tensors = wire.seen(one for one in found if isinstance(one, Observation))
    assert sorted((kind, *rest) for kind, _, *rest in tensors) == sorted((kind, *rest) for kind, _, *rest in sent)
    faults = [
        one for one in found if isinstance(one, CallEnded | Note) or (isinstance(one, StreamEnded) and one.broken)
    ]
    assert faults == []
