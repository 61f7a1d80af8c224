"""Packets in packets, written by scapy, which shares no line with the decoder."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import (
    ARP,
    GRE,
    ICMP,
    IP,
    LLC,
    PPP,
    SNAP,
    TCP,
    UDP,
    CookedLinux,
    Dot1Q,
    Dot3,
    Dot11,
    Dot11QoS,
    Ether,
    IPv6,
    IPv6ExtHdrFragment,
    PPPoE,
    PPPoED,
    RadioTap,
    Raw,
    fragment,
)
from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTP_U_Header
from scapy.contrib.mpls import MPLS
from scapy.layers.inet6 import fragment6
from scapy.layers.ipsec import AH
from scapy.layers.vxlan import VXLAN

from adversary.tap.decode.packets import layers
from adversary.tap.decode.packets.ip import endpoints
from adversary.tap.decode.packets.pcap import Packet
from adversary.tap.decode.packets.segments import SegmentReader

ETHERNET, RAW = 1, 101
TEXT = b"the payload of the segment"
SEGMENT = IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=40000, dport=50051, seq=7, ack=8, flags="PA") / TEXT
SIX = IPv6(src="fd00::1", dst="fd00::2") / TCP(sport=40000, dport=50051, seq=7, ack=8, flags="PA") / TEXT
INNER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / SEGMENT
OUTER = Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:04") / IP(src="192.168.0.1", dst="192.168.0.2")
OUTER6 = Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:04") / IPv6(src="fd01::1", dst="fd01::2")
PPP_ETHERNET = Ether(type=0x8864) / PPPoE(sessionid=5)
WIRELESS = {"FCfield": 1, "addr1": "02:00:00:00:00:04", "addr2": "02:00:00:00:00:01"}

ENCAPSULATED = {
    "VXLAN": (ETHERNET, OUTER / UDP(dport=4789) / VXLAN(vni=5) / INNER),
    "VXLAN over IPv6": (ETHERNET, OUTER6 / UDP(dport=4789) / VXLAN(vni=5) / INNER),
    "VXLAN in VXLAN": (ETHERNET, OUTER / UDP(dport=4789) / VXLAN() / OUTER / UDP(dport=8472) / VXLAN() / INNER),
    "VXLAN with a tag inside": (ETHERNET, OUTER / UDP(dport=4789) / VXLAN() / Ether() / Dot1Q(vlan=5) / SEGMENT),
    "Geneve": (ETHERNET, OUTER / UDP(dport=6081) / GENEVE(vni=5) / INNER),
    "Geneve of IP": (ETHERNET, OUTER / UDP(dport=6081) / GENEVE(vni=5, proto=0x0800) / SEGMENT),
    "GRE": (ETHERNET, OUTER / GRE() / SEGMENT),
    "GRE with everything": (ETHERNET, OUTER / GRE(chksum_present=1, key_present=1, seqnum_present=1) / SEGMENT),
    "GRE of Ethernet": (ETHERNET, OUTER / GRE(proto=0x6558, key_present=1, key=9) / INNER),
    "ERSPAN II": (ETHERNET, OUTER / GRE(seqnum_present=1, sequence_number=3, proto=0x88BE) / ERSPAN_II() / INNER),
    "ERSPAN III": (ETHERNET, OUTER / GRE(seqnum_present=1, proto=0x22EB) / ERSPAN_III() / INNER),
    "IP in IP": (ETHERNET, OUTER / SEGMENT),
    "IPv6 in IPv4": (ETHERNET, OUTER / SIX),
    "IPv4 in IPv6": (ETHERNET, OUTER6 / SEGMENT),
    "GTP": (ETHERNET, OUTER / UDP(dport=2152) / GTP_U_Header(teid=5, gtp_type=255) / SEGMENT),
    "GTP with a number": (ETHERNET, OUTER / UDP(dport=2152) / GTP_U_Header(teid=5, gtp_type=255, S=1, seq=4) / SEGMENT),
    "MPLS": (ETHERNET, Ether(type=0x8847) / MPLS(label=3, s=0) / MPLS(label=4, s=1) / SEGMENT),
    "MPLS of Ethernet": (ETHERNET, Ether(type=0x8847) / MPLS(label=3, s=1) / Raw(bytes(4)) / INNER),
    "PPPoE": (ETHERNET, PPP_ETHERNET / PPP(proto=0x21) / SEGMENT),
    "PPPoE with a tag, IPv6": (ETHERNET, Ether() / Dot1Q(type=0x8864) / PPPoE() / PPP(proto=0x57) / SIX),
    "PPP": (9, Raw(b"\xff\x03\x00\x21") / SEGMENT),
    "PPP, compressed": (9, Raw(b"\x21") / SEGMENT),
    "two tags": (ETHERNET, Ether() / Dot1Q(vlan=1) / Dot1Q(vlan=2) / SEGMENT),
    "SNAP": (ETHERNET, Dot3() / LLC() / SNAP(code=0x0800) / SEGMENT),
    "cooked": (113, CookedLinux() / SEGMENT),
    "802.11": (105, Dot11(type=2, subtype=0, **WIRELESS) / LLC() / SNAP() / SEGMENT),
    "802.11 QoS": (127, RadioTap() / Dot11(type=2, subtype=8, **WIRELESS) / Dot11QoS() / LLC() / SNAP() / SEGMENT),
    "authenticated": (ETHERNET, OUTER / AH(nh=4, payloadlen=4, icv=bytes(12)) / SEGMENT),
}
ENCAPSULATED = {name: (link, bytes(packet)) for name, (link, packet) in ENCAPSULATED.items()}


def read(reader: SegmentReader, link: int, packet: Any, snap: int | None = None) -> Any:
    data = bytes(packet)
    return reader.read(Packet(1.0, link, memoryview(data[:snap]), len(data)))


@pytest.mark.parametrize("name", ENCAPSULATED)
def test_the_segment_inside_is_found(name: str) -> None:
    link, packet = ENCAPSULATED[name]
    reader = SegmentReader()
    found = read(reader, link, packet)
    assert found is not None, reader.skipped
    host = "10.0.0.{}" if "IPv6 in" not in name and "IPv6" not in name.partition(",")[2] else "[fd00::{}]"
    assert endpoints(found.flow) == (f"{host.format(1)}:40000", f"{host.format(2)}:50051")
    assert (found.sequence, found.acknowledged, bytes(found.data), found.cut) == (7, 8, TEXT, 0)
    assert not reader.skipped


@pytest.mark.parametrize("name", [name for name in ENCAPSULATED if "802.11" not in name])
def test_a_cut_packet_says_how_many_bytes_are_missing(name: str) -> None:
    link, packet = ENCAPSULATED[name]
    found = read(SegmentReader(), link, packet, snap=len(bytes(packet)) - 5)
    assert (bytes(found.data), found.cut) == (TEXT[:-5], 5)


SKIPPED = {
    "ARP": (ETHERNET, Ether() / ARP()),
    "ARP in VXLAN": (ETHERNET, OUTER / UDP(dport=4789) / VXLAN() / Ether() / ARP()),
    "ICMP in GRE": (ETHERNET, OUTER / GRE() / IP() / ICMP()),
    "UDP": (ETHERNET, OUTER / UDP(dport=53, sport=53) / TEXT),
    "ESP, encrypted": (ETHERNET, Ether() / IP(proto=50) / TEXT),
    "PPPoE discovery": (ETHERNET, Ether(type=0x8863) / PPPoED()),
    "PPP protocol 0xc021": (9, Raw(b"\xff\x03\xc0\x21\1\1\0\4")),
    "802.11, encrypted": (105, Dot11(type=2, subtype=0, FCfield=0x41) / Raw(bytes(60))),
    "802.11 management": (105, Dot11(type=0, subtype=8) / Raw(bytes(40))),
    "GTP signalling": (ETHERNET, OUTER / UDP(dport=2152) / GTP_U_Header(gtp_type=1)),
    "EtherType 0x9999": (ETHERNET, Ether(type=0x9999) / TEXT),
    "IP protocol 200": (RAW, IP(proto=200) / TEXT),
    "link type 147, which is not known": (147, INNER),
    "link type 9999, which is not known": (9999, INNER),
    "packets that are cut off or broken": (ETHERNET, Raw(b"\0\1")),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_what_holds_no_segment_is_named_and_counted(name: str) -> None:
    reader = SegmentReader()
    for _ in range(3):
        assert read(reader, *SKIPPED[name]) is None
    assert reader.skipped == {name: 3}


def fragments(version: int) -> list[bytes]:
    if version == 4:
        return [bytes(part) for part in fragment(IP(src="10.0.0.1", dst="10.0.0.2", id=77) / SEGMENT[TCP], fragsize=16)]
    # scapy leaves room for the headers: at least 1280 bytes a fragment.
    whole = IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrFragment(id=77) / SIX[TCP].copy() / Raw(bytes(4000))
    return [bytes(part) for part in fragment6(whole, 1280)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("order", [1, -1])
def test_fragments_are_joined_in_any_order_and_twice(version: int, order: int) -> None:
    parts = fragments(version)[::order]
    assert len(parts) > 2
    reader = SegmentReader()
    found = [read(reader, RAW, part) for part in [parts[0], *parts]]
    (segment,) = [one for one in found if one is not None]
    assert bytes(segment.data).startswith(TEXT) and segment.cut == 0 and segment.sequence == 7
    assert endpoints(segment.flow)[0] == ("10.0.0.1:40000" if version == 4 else "[fd00::1]:40000")
    reader.finish()
    assert not reader.skipped and not reader._held


def test_fragments_inside_a_tunnel_are_joined() -> None:
    parts = fragment(IP(src="10.0.0.1", dst="10.0.0.2", id=77) / SEGMENT[TCP], fragsize=16)
    reader = SegmentReader()
    found = [read(reader, ETHERNET, OUTER / GRE() / part) for part in parts]
    assert [bytes(one.data) for one in found if one is not None] == [TEXT]


def test_missing_fragments_are_counted_and_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adversary.tap.decode.packets.segments.MAX_DATAGRAMS", 10)
    reader = SegmentReader()
    for number in range(50):
        part = IP(src="10.0.0.1", dst="10.0.0.2", id=number, flags="MF", proto=6) / Raw(bytes(64))
        assert read(reader, RAW, part) is None
        assert len(reader._datagrams) <= 10
    reader.finish()
    assert reader.skipped == {"incomplete IP fragments": 50} and not reader._held


@given(st.sampled_from([*layers.LINKS, 9999]), st.binary(max_size=120))
def test_random_packets_never_raise(link: int, data: bytes) -> None:
    SegmentReader().read(Packet(0.0, link, memoryview(data), len(data)))


@given(st.sampled_from(list(ENCAPSULATED)), st.data())
def test_damaged_packets_never_raise(name: str, draw: Any) -> None:
    link, packet = ENCAPSULATED[name]
    data = bytearray(packet)
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    data = data[: draw.draw(st.integers(0, len(data)))]
    SegmentReader().read(Packet(0.0, link, memoryview(bytes(data)), len(data)))


def test_the_patched_pcap_of_old_kernels_and_snoop_are_read(wire: Any) -> None:
    from adversary.tap.decode.packets.pcap import decoder

    packets = [b"first packet", b"second", b"third one"]
    patched = struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 1)
    snoop = struct.pack(">8sII", b"snoop\0\0\0", 2, 4)
    for number, data in enumerate(packets):
        patched += struct.pack("<IIIIIHBB", 5, number, len(data), 99, 1, 8, 0, 0) + data
        pad = -len(data) % 4
        snoop += struct.pack(">IIIIII", 99, len(data), 24 + len(data) + pad, 0, 5, number) + data + bytes(pad)
    for file in (patched, snoop):
        for size in (1, 7, len(file)):
            reader = decoder(file[:8])
            pieces = [file[start : start + size] for start in range(0, len(file), size)]
            found = [(one.link, bytes(one.data), one.length) for piece in pieces for one in reader.feed(piece)]
            assert found == [(1, data, 99) for data in packets] and reader.pending() == 0
