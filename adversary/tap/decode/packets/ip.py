"""Decode packets to TCP segments: the link types that tcpdump writes, IPv4 and IPv6.

This is the fast way, for packets of one segment without an encapsulation. `layers` decodes the others.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

from adversary.tap.decode.packets.pcap import Packet

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

NULL, ETHERNET, RAW, LOOP, LINUX_SLL, LINUX_SLL2 = 0, 1, 101, 108, 113, 276
RAW_LINKS = (RAW, 12, 14, 228, 229)
VLAN_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200)
IPV4, IPV6 = 0x0800, 0x86DD
TCP = 6
_EXTENSIONS = (0, 43, 60)

_TCP = struct.Struct(">HHIIBBH")
_SHORT = struct.Struct(">H")


class Segment(NamedTuple):
    """One TCP segment.

    `flow` is source address, destination address, source port and destination port, as bytes of the packet. `cut` is
    the number of payload bytes that were not captured. `window` is the field of the header; `scale` is the window's
    shift, which only a SYN states.
    """

    time: float
    flow: bytes
    sequence: int
    acknowledged: int
    flags: int
    data: memoryview
    cut: int
    window: int = 0
    scale: int | None = None


def segment(packet: Packet) -> Segment | None:
    """Parse a packet; return None if it is not one whole TCP segment directly in IP."""
    try:
        return _parse(packet)
    except (struct.error, IndexError):
        return None


def tcp_segment(time: float, addresses: bytes, data: memoryview, tcp: int, end: int) -> Segment | None:
    """Parse the TCP header at `tcp`; the segment ends at `end`, also if fewer bytes were captured.

    Raises
    ------
    struct.error
        The header is not captured whole.
    """
    _, _, sequence, acknowledged, offset, flags, window = _TCP.unpack_from(data, tcp)
    payload = tcp + (offset >> 4) * 4
    if payload < tcp + 20 or end < payload:
        return None
    kept = data[payload:end]
    scale = _scale(data[tcp + 20 : payload]) if flags & SYN else None
    flow = addresses + bytes(data[tcp : tcp + 4])
    return Segment(time, flow, sequence, acknowledged, flags, kept, end - payload - len(kept), window, scale)


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
        if header < 20 or data[start + 9] != TCP or _SHORT.unpack_from(data, start + 6)[0] & 0x3FFF:
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
    return tcp_segment(packet.time, addresses, data, tcp, start + total if total else packet.length)


def _network(link: int, data: memoryview) -> int | None:
    """Return the position of the IP header, None if there is none."""
    if link in RAW_LINKS:
        return 0
    if link == ETHERNET:
        start = 14
        kind = _SHORT.unpack_from(data, 12)[0]
        while kind in VLAN_TAGS:
            kind = _SHORT.unpack_from(data, start + 2)[0]
            start += 4
        return start if kind in (IPV4, IPV6) else None
    if link == LINUX_SLL:
        return 16 if _SHORT.unpack_from(data, 14)[0] in (IPV4, IPV6) else None
    if link == LINUX_SLL2:
        return 20 if _SHORT.unpack_from(data, 0)[0] in (IPV4, IPV6) else None
    if link in (NULL, LOOP):
        return 4
    return None


def _upper_layer(data: memoryview, start: int) -> int | None:
    """Return the position of the TCP header in an IPv6 packet, after extension headers; None if there is none."""
    protocol, position = data[start + 6], start + 40
    while protocol in _EXTENSIONS:
        protocol, position = data[position], position + 8 + data[position + 1] * 8
    return position if protocol == TCP else None


def _scale(options: memoryview) -> int | None:
    """Return the option "window scale" of a SYN, at most 14; None without it."""
    position = 0
    while position < len(options) and options[position]:
        if options[position] == 1:
            position += 1
            continue
        size = options[position + 1] if position + 1 < len(options) else 0
        if options[position] == 3 and size == 3 and position + 2 < len(options):
            return min(options[position + 2], 14)
        position += max(size, 2)
    return None
