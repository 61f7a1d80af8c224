import contextlib
import struct
from typing import Any

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adversary.tap.decode.packets.ip import endpoints, segment
from adversary.tap.decode.packets.pcap import CaptureError, Packet, decoder


def packets(data: Any, piece: Any = None) -> Any:
    reader = decoder(data[:4])
    pieces = [data] if piece is None else [data[k : k + piece] for k in range(0, len(data), piece)]
    found = [(p.time, p.link, bytes(p.data), p.length) for part in pieces for p in reader.feed(part)]
    return found, reader.pending()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [False, True])
@pytest.mark.parametrize("piece", [None, 1, 7, 1000])
def test_classic_pcap_in_either_byte_order_and_resolution(
    wire: Any, order: str, nanoseconds: bool, piece: int | None
) -> None:
    data = wire.pcap([b"abc", b"", b"x" * 50], order=order, nanoseconds=nanoseconds, link=113, snap=20)
    found, left = packets(data, piece)
    assert left == 0
    assert [p[1:] for p in found] == [(113, b"abc", 3), (113, b"", 0), (113, b"x" * 20, 50)]
    assert [round(p[0] - 1_700_000_000, 6) for p in found] == [0, 0.001, 0.002]


def block(kind: Any, body: Any, order: Any = "<") -> Any:
    size = 12 + len(body) + (-len(body) % 4)
    return struct.pack(order + "II", kind, size) + body + bytes(-len(body) % 4) + struct.pack(order + "I", size)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("piece", [None, 1, 13])
def test_pcapng_with_two_interfaces_and_resolutions(order: str, piece: int | None) -> None:
    section = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    micro = block(1, struct.pack(order + "HHI", 1, 0, 0), order)
    nano = block(1, struct.pack(order + "HHI", 101, 0, 0) + struct.pack(order + "HHB3xHH", 9, 1, 9, 0, 0), order)
    ticks = 1_500_000
    first = block(6, struct.pack(order + "IIIII", 0, 0, ticks, 3, 9) + b"abc", order)
    second = block(6, struct.pack(order + "IIIII", 1, 0, ticks, 2, 2) + b"de", order)
    simple = block(3, struct.pack(order + "I", 4) + b"wxyz", order)
    unknown = block(0xBAD, b"comment", order)
    found, left = packets(section + micro + nano + first + unknown + second + simple, piece)
    assert left == 0
    assert [(round(t, 9), link, data, length) for t, link, data, length in found] == [
        (1.5, 1, b"abc", 9),
        (0.0015, 101, b"de", 2),
        (0.0, 1, b"wxyz", 4),
    ]


def test_truncated_capture_keeps_what_is_whole(wire: Any) -> None:
    data = wire.pcap([b"abc", b"defg"])
    found, left = packets(data[:-1])
    assert [p[2] for p in found] == [b"abc"]
    assert left == 16 + 3


@pytest.mark.parametrize("data", [b"", b"hello world, this is text", b"\x7fELF" + bytes(40)])
def test_what_is_no_capture_is_refused(data: Any) -> None:
    with pytest.raises(CaptureError, match=r"is empty|not a capture"):
        decoder(data[:4])


def test_impossible_packet_is_refused(wire: Any) -> None:
    data = wire.pcap([]) + struct.pack("<IIII", 0, 0, 2**31, 2**31)
    with pytest.raises(CaptureError, match="claims"):
        packets(data)


@given(st.sampled_from([b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x0a\x0d\x0d\x0a"]), st.binary(max_size=400))
def test_random_bytes_raise_only_capture_errors(start: Any, rest: Any) -> None:
    with contextlib.suppress(CaptureError):
        packets(start + rest)


@pytest.mark.parametrize(
    ("link", "header"),
    [
        (101, b""),
        (1, bytes(12) + b"\x08\x00"),
        (1, bytes(12) + b"\x81\x00\x00\x05\x08\x00"),
        (0, b"\x02\x00\x00\x00"),
        (113, bytes(14) + b"\x08\x00"),
        (276, b"\x08\x00" + bytes(18)),
    ],
)
def test_link_types(wire: Any, link: int, header: Any) -> None:
    data = header + wire.ipv4(wire.CLIENT, wire.SERVER, 7, 8, 16, b"payload") + b"padding"
    found = segment(Packet(1.0, link, memoryview(data), len(data)))
    assert found is not None
    assert endpoints(found.flow) == ("10.0.0.1:40000", "10.0.0.2:50051")
    assert (found.sequence, found.acknowledged, bytes(found.data), found.cut) == (7, 8, b"payload", 0)


@pytest.mark.parametrize("extension", [b"", bytes([6, 0]) + bytes(6)])
def test_ipv6_with_and_without_extension_header(wire: Any, extension: Any) -> None:
    data = wire.ipv6(wire.CLIENT, wire.SERVER, 7, 8, 16, b"payload", extension)
    found = segment(Packet(1.0, 101, memoryview(data), len(data)))
    assert found is not None
    assert endpoints(found.flow) == ("[::1]:40000", "[::1]:50051")
    assert bytes(found.data) == b"payload"


def test_snap_length_tells_what_is_cut(wire: Any) -> None:
    data = wire.ipv4(wire.CLIENT, wire.SERVER, 7, 8, 16, b"p" * 100)
    found = segment(Packet(1.0, 101, memoryview(data[:60]), len(data)))
    assert found is not None
    assert (len(found.data), found.cut) == (20, 80)


def test_segment_offload_leaves_the_length_zero(wire: Any) -> None:
    data = bytearray(wire.ipv4(wire.CLIENT, wire.SERVER, 7, 8, 16, b"p" * 100))
    data[2:4] = b"\0\0"
    found = segment(Packet(1.0, 101, memoryview(bytes(data)), len(data)))
    assert found is not None
    assert (len(found.data), found.cut) == (100, 0)


@pytest.mark.parametrize("offset", [0x2000, 0x0003])
def test_fragments_and_other_protocols_are_no_segments(wire: Any, offset: int) -> None:
    data = bytearray(wire.ipv4(wire.CLIENT, wire.SERVER, 7, 8, 16, b"p"))
    data[6:8] = struct.pack(">H", offset)
    assert segment(Packet(1.0, 101, memoryview(bytes(data)), len(data))) is None
    udp = bytearray(wire.ipv4(wire.CLIENT, wire.SERVER, 7, 8, 16, b"p"))
    udp[9] = 17
    assert segment(Packet(1.0, 101, memoryview(bytes(udp)), len(udp))) is None


@given(st.sampled_from([0, 1, 101, 113, 276, 9999]), st.binary(max_size=120))
def test_random_packets_never_raise(link: Any, data: Any) -> None:
    segment(Packet(0.0, link, memoryview(data), len(data)))


@given(st.binary(max_size=80))
def test_random_ip_packets_never_raise(data: Any) -> None:
    for first in (b"\x45", b"\x4f", b"\x60"):
        packet = first + data
        segment(Packet(0.0, 101, memoryview(packet), len(packet)))


def test_options_of_ip_and_tcp_are_no_payload() -> None:
    tcp = dpkt.tcp.TCP(sport=7, dport=8, seq=9, off=7, opts=b"\x01" * 8, data=b"payload")
    packet = dpkt.ip.IP(src=b"\x0a\0\0\1", dst=b"\x0a\0\0\2", p=6, hl=6, opts=b"\x01" * 4, data=tcp)
    packet.len = len(packet)
    data = bytes(packet)
    found = segment(Packet(1.0, 101, memoryview(data), len(data)))
    assert found is not None
    assert (bytes(found.data), found.sequence, found.flow[-4:]) == (b"payload", 9, b"\0\7\0\x08")
