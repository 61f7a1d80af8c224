"""Walk through the layers of a packet to its TCP segment: link types, tags, tunnels and IP fragments.

No library was found that knows these layers, may be a dependency of this licence and is fast: dpkt lacks VXLAN, ERSPAN
and GTP, and scapy takes a millisecond a packet. Each layer is a few bytes of header, read by one function. It returns
the next layer and its position; for a packet without TCP it raises `Skipped` with the name of the layer.
Sources: the link types' registry of tcpdump.org, IEEE 802.1Q, 802.2, 802.11, and the RFCs at each function.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from adversary.tap.decode.packets.ip import IPV4, IPV6, VLAN_TAGS

_SHORT = struct.Struct(">H")
_LONG = struct.Struct(">I")
_SNAP = b"\xaa\xaa\x03\0\0\0"

Step = tuple[str, int]


class Skipped(Exception):  # noqa: N818 - an outcome of the walk, no error
    """The packet holds no TCP segment; the message names the layer that ends the walk."""


def ethertype(kind: int, at: int) -> Step:
    """Return the layer that an EtherType names."""
    if kind in _ETHERTYPES:
        return _ETHERTYPES[kind], at
    raise Skipped(_NAMES.get(kind, f"EtherType 0x{kind:04x}"))


def link(kind: int, data: memoryview) -> Step:
    """Return the first layer of a packet of this link type."""
    if kind in LINKS:
        return LINKS[kind], 0
    raise Skipped(f"link type {kind}, which is not known")


def _ethernet(data: memoryview, at: int) -> Step:
    return _typed(data, at + 12)


def _typed(data: memoryview, at: int) -> Step:
    """Read an EtherType, or the length of an 802.3 frame."""
    kind = _SHORT.unpack_from(data, at)[0]
    return ethertype(kind, at + 2) if kind >= 0x600 else ("LLC", at + 2)


def _vlan(data: memoryview, at: int) -> Step:
    return _typed(data, at + 2)


def _llc(data: memoryview, at: int) -> Step:
    if bytes(data[at : at + 6]) == _SNAP:
        return ethertype(_SHORT.unpack_from(data, at + 6)[0], at + 8)
    raise Skipped("LLC")


def _mpls(data: memoryview, at: int) -> Step:
    # RFC 3032: the last label has bit 8 set; RFC 4385: a pseudowire begins with a zero word.
    while not data[at + 2] & 1:
        at += 4
    at += 4
    first = data[at] >> 4
    if first in (4, 6):
        return "IP", at
    return "Ethernet", at if first else at + 4


def _pppoe(data: memoryview, at: int) -> Step:
    return "PPP", at + 6


def _ppp(data: memoryview, at: int) -> Step:
    # RFC 1662: address and control may be left out, and the first byte of the protocol if it is 0.
    if data[at] in (0xFF, 0x0F) and data[at + 1] in (0x03, 0x00):
        if data[at] == 0x0F:
            return ethertype(_SHORT.unpack_from(data, at + 2)[0], at + 4)  # Cisco's HDLC
        at += 2
    protocol, at = (data[at], at + 1) if data[at] & 1 else (_SHORT.unpack_from(data, at)[0], at + 2)
    if protocol in (0x21, 0x57):
        return "IP", at
    if protocol in (0x281, 0x283):
        return "MPLS", at
    raise Skipped(f"PPP protocol 0x{protocol:04x}")


def _direction_ppp(data: memoryview, at: int) -> Step:
    return "PPP", at + 1


def _hdlc(data: memoryview, at: int) -> Step:
    return ethertype(_SHORT.unpack_from(data, at + 2)[0], at + 4)


def _sll(data: memoryview, at: int) -> Step:
    return _typed(data, at + 14)


def _sll2(data: memoryview, at: int) -> Step:
    return ethertype(_SHORT.unpack_from(data, at)[0], at + 20)


def _null(data: memoryview, at: int) -> Step:
    return "IP", at + 4


def _nflog(data: memoryview, at: int) -> Step:
    # Attributes of netlink: length and type in the recorder's byte order, padded to four bytes. Type 9 is the packet.
    at += 4
    while True:
        size, kind = struct.unpack_from("<HH", data, at)
        if size < 4:
            raise Skipped("NFLOG without a packet")
        if kind & 0x7FFF == 9:
            return "IP", at + 4
        at += size + 3 & ~3


def _pktap(data: memoryview, at: int) -> Step:
    size, _, kind = struct.unpack_from("<III", data, at)
    if kind not in LINKS or size < 12:
        raise Skipped("PKTAP")
    return LINKS[kind], at + size


def _radiotap(data: memoryview, at: int) -> Step:
    return "802.11", at + struct.unpack_from("<H", data, at + 2)[0]


def _prism(data: memoryview, at: int) -> Step:
    return "802.11", at + (_LONG.unpack_from(data, at + 4)[0] if data[at] == 0x80 else 144)


def _wireless(data: memoryview, at: int) -> Step:
    """802.11: only data frames that are not encrypted hold packets."""
    control, flags = data[at], data[at + 1]
    if control & 0x0C != 0x08:
        raise Skipped("802.11 management")
    if control & 0x40:
        raise Skipped("802.11 without data")
    if flags & 0x40:
        raise Skipped("802.11, encrypted")
    start = at + (30 if flags & 3 == 3 else 24)
    if control & 0x80:
        if data[start] & 0x80:
            raise Skipped("802.11 aggregate")
        start += 6 if flags & 0x80 else 2
    return "LLC", start


def _gre(data: memoryview, at: int) -> Step:
    # RFC 2784, 2890 and 2637 (version 1, of PPTP): optional checksum, key, sequence and acknowledgement.
    flags, protocol = struct.unpack_from(">HH", data, at)
    numbered, at = flags & 0x1000, at + 4
    if flags & 0x4000:
        raise Skipped("GRE with a route")
    for bit in (0x8000, 0x2000, 0x1000, 0x0080 if flags & 7 else 0):
        at += 4 if flags & bit else 0
    if protocol == 0x880B:
        return "PPP", at
    if protocol == 0x88BE:
        # ERSPAN: type I has no header, type II has one and numbers its packets.
        return "Ethernet", at + 8 if numbered else at
    if protocol == 0x22EB:
        return "Ethernet", at + (20 if data[at + 11] & 1 else 12)
    return ethertype(protocol, at)


def _vxlan(data: memoryview, at: int) -> Step:
    # RFC 7348; the generic extension states the inner protocol in byte 3.
    inner = data[at + 3] if data[at] & 0x04 else 3
    if inner in (1, 2):
        return "IP", at + 8
    if inner == 3:
        return "Ethernet", at + 8
    raise Skipped(f"VXLAN protocol {inner}")


def _geneve(data: memoryview, at: int) -> Step:
    # RFC 8926.
    return ethertype(_SHORT.unpack_from(data, at + 2)[0], at + 8 + (data[at] & 0x3F) * 4)


def _gtp(data: memoryview, at: int) -> Step:
    # 3GPP TS 29.281: type 255 is a user's packet; with any of the low flags there are four more bytes, and extensions.
    flags, kind = data[at], data[at + 1]
    if flags >> 5 != 1 or kind != 255:
        raise Skipped("GTP signalling")
    at += 8
    if flags & 7:
        following, at = data[at + 3], at + 4
        while following and flags & 4:
            size = data[at] * 4
            if not size:
                raise Skipped("GTP, broken")
            following, at = data[at + size - 1], at + size
    if data[at] >> 4 in (4, 6):
        return "IP", at
    raise Skipped("GTP without IP")


def _tzsp(data: memoryview, at: int) -> Step:
    # TaZmen Sniffer Protocol, by which routers mirror packets: tags up to type 1.
    protocol, at = _SHORT.unpack_from(data, at + 2)[0], at + 4
    while data[at] != 1:
        at += 1 if data[at] == 0 else 2 + data[at + 1]
    if protocol == 1:
        return "Ethernet", at + 1
    if protocol == 18:
        return "802.11", at + 1
    raise Skipped(f"TZSP protocol {protocol}")


def _l2tp(data: memoryview, at: int) -> Step:
    # RFC 2661.
    flags = _SHORT.unpack_from(data, at)[0]
    if flags & 0x8000 or flags & 0x0F != 2:
        raise Skipped("L2TP control")
    at += 2 + (2 if flags & 0x4000 else 0) + 4 + (4 if flags & 0x0800 else 0)
    return "PPP", at + 2 + _SHORT.unpack_from(data, at)[0] if flags & 0x0200 else at


def _etherip(data: memoryview, at: int) -> Step:
    return "Ethernet", at + 2


def _backbone(data: memoryview, at: int) -> Step:
    return "Ethernet", at + 4  # IEEE 802.1ah


_ETHERTYPES = {
    IPV4: "IP",
    IPV6: "IP",
    0x8847: "MPLS",
    0x8848: "MPLS",
    0x8864: "PPPoE",
    0x6558: "Ethernet",
    0x88E7: "PBB",
} | dict.fromkeys(VLAN_TAGS, "VLAN")
_NAMES = {
    0x0806: "ARP",
    0x8035: "RARP",
    0x8863: "PPPoE discovery",
    0x888E: "EAPOL",
    0x88CC: "LLDP",
    0x88E5: "MACsec, encrypted",
    0x88F7: "PTP",
}
LINKS = {
    0: "loopback",
    1: "Ethernet",
    9: "PPP",
    12: "IP",
    14: "IP",
    50: "PPP",
    51: "PPPoE",
    101: "IP",
    104: "HDLC",
    105: "802.11",
    108: "loopback",
    113: "SLL",
    119: "Prism",
    127: "radiotap",
    163: "Prism",
    204: "PPP with direction",
    219: "MPLS",
    228: "IP",
    229: "IP",
    239: "NFLOG",
    258: "PKTAP",
    276: "SLL2",
}
# Ports of UDP whose packets hold packets.
UDP_PORTS = {
    4789: "VXLAN",
    8472: "VXLAN",
    4790: "VXLAN",
    6081: "Geneve",
    2152: "GTP",
    6635: "MPLS",
    4754: "GRE",
    37008: "TZSP",
    1701: "L2TP",
}
# Protocols of IP that hold packets, and names of others.
IP_PROTOCOLS = {4: "IP", 41: "IP", 47: "GRE", 97: "EtherIP", 137: "MPLS"}
IP_NAMES = {1: "ICMP", 2: "IGMP", 17: "UDP", 50: "ESP, encrypted", 58: "ICMPv6", 89: "OSPF", 132: "SCTP"}
READERS: dict[str, Callable[[memoryview, int], Step]] = {
    "Ethernet": _ethernet,
    "VLAN": _vlan,
    "LLC": _llc,
    "MPLS": _mpls,
    "PPPoE": _pppoe,
    "PPP": _ppp,
    "PPP with direction": _direction_ppp,
    "HDLC": _hdlc,
    "SLL": _sll,
    "SLL2": _sll2,
    "loopback": _null,
    "NFLOG": _nflog,
    "PKTAP": _pktap,
    "radiotap": _radiotap,
    "Prism": _prism,
    "802.11": _wireless,
    "GRE": _gre,
    "VXLAN": _vxlan,
    "Geneve": _geneve,
    "GTP": _gtp,
    "TZSP": _tzsp,
    "L2TP": _l2tp,
    "EtherIP": _etherip,
    "PBB": _backbone,
}
# Layers that carry other networks' packets: named with a packet that is skipped inside them.
TUNNELS = ("GRE", "VXLAN", "Geneve", "GTP", "TZSP", "L2TP", "EtherIP", "MPLS", "PPPoE", "PPP", "802.11", "PBB")
