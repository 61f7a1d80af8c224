"""Decode packets to TCP segments: the link types that tcpdump writes, IPv4 and IPv6."""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

from adversary.tap.decode.pcap import Packet

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

NULL, ETHERNET, RAW, LINUX_SLL, LINUX_SLL2 = 0, 1, 101, 113, 276
_RAW_LINKS = (RAW, 12, 14, 228, 229)
_VLAN_TAGS = (0x8100, 0x88A8, 0x9100)
_EXTENSIONS = (0, 43, 60)

_TCP = struct.Struct(">HHIIBBHHH")
_SHORT = struct.Struct(">H")


class Segment(NamedTuple):
    """One TCP segment.

    `flow` is source address, destination address, source port and destination port, as bytes of the packet. `cut` is
    the number of payload bytes that were not captured.
    """

    time: float
    flow: bytes
    sequence: int
    acknowledged: int
    flags: int
    data: memoryview
    cut: int


def segment(packet: Packet) -> Segment | None:
    """Parse a packet; return None if it is not a whole TCP segment over IP (other protocol, fragment, too short)."""
    try:
        return _parse(packet)
    except (struct.error, IndexError):
        return None


def reverse(flow: bytes) -> bytes:
    """Return the flow of the other direction."""
    size = (len(flow) - 4) // 2
    return flow[size : 2 * size] + flow[:size] + flow[-2:] + flow[-4:-2]


def endpoints(flow: bytes) -> tuple[str, str]:
    """Return source and destination as "ip:port" ("[ip]:port" for IPv6)."""
    size = (len(flow) - 4) // 2
    source, destination = struct.unpack(">HH", flow[-4:])
    return _endpoint(flow[:size], source), _endpoint(flow[size : 2 * size], destination)


def _endpoint(address: bytes, port: int) -> str:
    text = str(ipaddress.ip_address(address))
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"


def _parse(packet: Packet) -> Segment | None:
    data = packet.data
    start = _network(packet.link, data)
    if start is None:
        return None
    version = data[start] >> 4
    if version == 4:
        header = (data[start] & 0x0F) * 4
        if header < 20 or data[start + 9] != 6 or _SHORT.unpack_from(data, start + 6)[0] & 0x3FFF:
            return None
        addresses = bytes(data[start + 12 : start + 20])
        total = _SHORT.unpack_from(data, start + 2)[0]
        tcp = start + header
    elif version == 6:
        addresses = bytes(data[start + 8 : start + 40])
        total = _SHORT.unpack_from(data, start + 4)[0]
        total += 40 if total else 0
        upper = _upper_layer(data, start)
        if upper is None:
            return None
        tcp = upper
    else:
        return None
    # A segment that the network card will split later (segment offload) has 0 as its length.
    end = start + total if total else packet.length
    _, _, sequence, acknowledged, offset, flags, _, _, _ = _TCP.unpack_from(data, tcp)
    payload = tcp + (offset >> 4) * 4
    if payload < tcp + 20 or end < payload:
        return None
    flow = addresses + bytes(data[tcp : tcp + 4])
    kept = data[payload:end]
    return Segment(packet.time, flow, sequence, acknowledged, flags, kept, end - payload - len(kept))


def _network(link: int, data: memoryview) -> int | None:
    """Return the position of the IP header, None if there is none."""
    if link in _RAW_LINKS:
        return 0
    if link == ETHERNET:
        start = 14
        kind = _SHORT.unpack_from(data, 12)[0]
        while kind in _VLAN_TAGS:
            kind = _SHORT.unpack_from(data, start + 2)[0]
            start += 4
        return start if kind in (0x0800, 0x86DD) else None
    if link == LINUX_SLL:
        return 16 if _SHORT.unpack_from(data, 14)[0] in (0x0800, 0x86DD) else None
    if link == LINUX_SLL2:
        return 20 if _SHORT.unpack_from(data, 0)[0] in (0x0800, 0x86DD) else None
    if link in (NULL, 108):
        return 4
    return None


def _upper_layer(data: memoryview, start: int) -> int | None:
    """Return the position of the TCP header in an IPv6 packet, after extension headers; None if there is none."""
    protocol, position = data[start + 6], start + 40
    while protocol in _EXTENSIONS:
        protocol, position = data[position], position + 8 + data[position + 1] * 8
    return position if protocol == 6 else None
