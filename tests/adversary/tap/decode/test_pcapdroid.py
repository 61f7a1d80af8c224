"""Captures of PCAPdroid, an Android app that records without root; no phone took part in these tests.

The bytes follow the format that its authors document: a frame is a made-up Ethernet header, the IP packet, padding to
four bytes, and a trailer of 32 bytes (magic 0x01072021, user id, name of the app, checksum); in pcapng, bare IP packets
and blocks of its own between them. Source: emanuele-f/PCAPdroid, app/src/main/jni/core/pcap_dump.h and .c.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from adversary.tap.decode.read import events, observations


def framed(packet: bytes, uid: int = 10_234, app: bytes = b"Chrome") -> bytes:
    """A frame with PCAPdroid's trailer."""
    kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    frame = bytes(12) + struct.pack(">H", kind) + packet
    frame += bytes(-len(frame) % 4) + struct.pack(">Ii20s", 0x01072021, uid, app)
    return frame + struct.pack("<I", zlib.crc32(frame))


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


def option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def pcapng(packets: list[bytes]) -> bytes:
    """A pcapng file as PCAPdroid writes it: options of the section, one interface of bare IP, and custom blocks."""
    described = option(2, b"Google Pixel 5") + option(3, b"Android 14") + option(4, b"PCAPdroid") + option(0, b"")
    parts = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + described)]
    parts.append(block(1, struct.pack("<HHI", 101, 0, 65_535)))
    # A user id's app, in a custom block (0xbad) of the author's enterprise number.
    parts.append(block(0xBAD, struct.pack("<IBB", 62_922, 1, 1) + b"com.android.chrome"))
    for number, packet in enumerate(packets):
        ticks = 1_700_000_000_000_000 + 1000 * number
        fields = struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(packet), len(packet))
        comment = option(1, b"u-10234") + option(0, b"")
        parts.append(block(6, fields + packet + bytes(-len(packet) % 4) + comment))
    return b"".join(parts)


@pytest.mark.parametrize("form", ["pcap", "pcap with trailer", "pcapng"])
def test_a_phones_capture_gives_the_same_tensors(wire: Any, form: str, tmp_path: Path) -> None:
    pieces, sent = wire.split_head()
    # Odd sizes, so that frames need padding.
    packets = wire.conversation(pieces, segment=333)
    path = tmp_path / "phone.pcap"
    if form == "pcapng":
        path.write_bytes(pcapng(packets))
    elif form == "pcap":
        path.write_bytes(wire.pcap(packets))
    else:
        path.write_bytes(wire.pcap([framed(packet) for packet in packets], link=1))
    assert sorted(map(str, wire.seen(observations([path])))) == sorted(map(str, sent))
    assert not [event for event in events([path]) if getattr(event, "broken", False)]


def test_the_trailer_is_no_payload_of_an_ipv6_packet(wire: Any, tmp_path: Path) -> None:
    from adversary.tap.decode.packets.ip import segment
    from adversary.tap.decode.packets.pcap import Pcap

    packet = wire.ipv6(("::1", 1), ("::1", 2), 7, 8, 16, b"payload")
    (found,) = Pcap().feed(wire.pcap([framed(packet)], link=1))
    parsed = segment(found)
    assert parsed is not None and bytes(parsed.data) == b"payload" and parsed.cut == 0
