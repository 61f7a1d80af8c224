"""A reader of pcap files as plain as can be, independent of what is tested."""

import struct
from typing import Any, NamedTuple

import pytest

SYN, RST = 2, 4


class Segment(NamedTuple):
    sport: int
    dport: int
    seq: int
    flags: int
    data: bytes


def read_segments(path: Any) -> Any:
    """Return the whole TCP segments of a little-endian pcap, and the bytes behind the last whole record."""
    raw = path.read_bytes()
    assert raw[:4] in (b"\x4d\x3c\xb2\xa1", b"\xd4\xc3\xb2\xa1")
    start = {1: 14, 101: 0}[struct.unpack_from("<I", raw, 20)[0]]
    segments, at = [], 24
    while at + 16 <= len(raw):
        kept, length = struct.unpack_from("<II", raw, at + 8)
        assert kept == length
        if at + 16 + kept > len(raw):
            break
        segments.append(_segment(raw[at + 16 + start : at + 16 + kept]))
        at += 16 + kept
    return segments, len(raw) - at


def _segment(packet: Any) -> Any:
    if packet[0] >> 4 == 6:
        header, length = 40, 40 + struct.unpack_from("!H", packet, 4)[0]
        assert packet[6] == 6
    else:
        header, length = 20, struct.unpack_from("!H", packet, 2)[0]
        assert packet[9] == 6
    assert length == len(packet)
    sport, dport, seq, _, offset, flags = struct.unpack_from("!HHIIBB", packet, header)
    return Segment(sport, dport, seq, flags, packet[header + (offset >> 4) * 4 :])


@pytest.fixture(name="read_segments")
def read_segments_fixture() -> Any:
    return read_segments


@pytest.fixture
def streams() -> Any:
    """Bytes per (source port, destination port) of a capture, joined by sequence number."""

    def join(path: Any) -> Any:
        starts, joined = {}, {}
        for segment in read_segments(path)[0]:
            key = segment.sport, segment.dport
            if segment.flags & SYN:
                starts[key] = segment.seq + 1
                joined[key] = bytearray()
            elif segment.data:
                offset = (segment.seq - starts[key]) & 0xFFFFFFFF
                assert offset == len(joined[key]), "segments follow one another without gap or overlap"
                joined[key] += segment.data
        return {key: bytes(value) for key, value in joined.items()}

    return join
