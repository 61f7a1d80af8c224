"""Find the TCP segment in each packet of a capture, and count the packets that hold none, by name."""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from adversary.tap.decode.packets import ip, layers
from adversary.tap.decode.packets.ip import Segment
from adversary.tap.decode.packets.layers import Skipped
from adversary.tap.decode.packets.pcap import Packet

# A packet in a packet in a packet: more is no network.
MAX_LAYERS = 24
# Most datagrams whose fragments wait for others, and their bytes together.
MAX_DATAGRAMS = 1024
MAX_FRAGMENTS = 16 << 20
# Most distinct names of skipped packets; further ones are counted as `OTHERS`.
MAX_NAMES = 100
OTHERS = "other protocols"

_SHORT = struct.Struct(">H")
_EXTENSIONS = (0, 43, 60, 135)
_FRAGMENT, _AUTHENTICATION, _UDP = 44, 51, 17


@dataclass
class _Datagram:
    """The fragments of one IP datagram."""

    parts: dict[int, bytes] = field(default_factory=dict)
    size: int | None = None
    held: int = 0
    packets: int = 0

    def whole(self) -> bytes | None:
        """Return the payload if no part is missing."""
        if self.size is None:
            return None
        joined = bytearray()
        for start, part in sorted(self.parts.items()):
            if start > len(joined):
                return None
            joined += part[len(joined) - start :]
        return bytes(joined) if len(joined) >= self.size else None


class SegmentReader:
    """Reader of one capture's packets. `skipped` counts those that hold no TCP segment, by what they hold."""

    def __init__(self) -> None:
        self.skipped: Counter[str] = Counter()
        self._datagrams: OrderedDict[bytes, _Datagram] = OrderedDict()
        self._held = 0

    def read(self, packet: Packet) -> Segment | None:
        """Return the packet's TCP segment; None if it has none, or only a part of one."""
        found = ip.segment(packet)
        if found is not None:
            return found
        outer: list[str] = []
        try:
            return self._walk(packet, outer)
        except Skipped as reason:
            self._skip(str(reason), outer)
        except (struct.error, IndexError):
            self._skip("packets that are cut off or broken", outer)
        return None

    def finish(self) -> None:
        """Count the fragments that never became whole."""
        for key in list(self._datagrams):
            self._give_up(key)

    def _walk(self, packet: Packet, outer: list[str]) -> Segment | None:
        data, missing = packet.data, packet.length - len(packet.data)
        layer, at = layers.link(packet.link, data)
        for _ in range(MAX_LAYERS):
            if layer in layers.TUNNELS:
                outer.append(layer)
            if layer != "IP":
                layer, at = layers.READERS[layer](data, at)
                continue
            protocol, addresses, start, end = _ip_header(data, at, len(data) + missing)
            if protocol < 0:
                joined = self._join(data, at, addresses, start, end)
                if joined is None:
                    return None
                data, missing, at = joined, 0, 0
                protocol, addresses, start, end = _ip_header(data, 0, len(data))
            if protocol == ip.TCP:
                segment = ip.tcp_segment(packet.time, addresses, data, start, end)
                if segment is None:
                    raise Skipped("TCP with a broken header")
                return segment
            if protocol == _UDP:
                layer, at = _udp(data, start)
            elif protocol in layers.IP_PROTOCOLS:
                layer, at = layers.IP_PROTOCOLS[protocol], start
                if layer == "IP":
                    outer.append("IP in IP")
            else:
                raise Skipped(layers.IP_NAMES.get(protocol, f"IP protocol {protocol}"))
        raise Skipped(f"more than {MAX_LAYERS} layers")

    def _join(self, data: memoryview, at: int, addresses: bytes, start: int, end: int) -> memoryview | None:
        """Keep a fragment; return the whole datagram, with a header, once all of its fragments are there."""
        version = data[at] >> 4
        if version == 4:
            field, kind = _SHORT.unpack_from(data, at + 6)[0], data[at + 9]
            more, offset = field & 0x2000, (field & 0x1FFF) * 8
            key = b"4" + addresses + bytes([kind]) + bytes(data[at + 4 : at + 6])
        else:
            # The fragment header is right before the payload.
            kind, field = data[start - 8], _SHORT.unpack_from(data, start - 6)[0]
            more, offset = field & 1, field & ~7
            key = b"6" + addresses + bytes(data[start - 4 : start])
        part = bytes(data[start:end])
        datagram = self._datagrams.setdefault(key, _Datagram())
        datagram.packets += 1
        if len(part) < end - start:
            raise Skipped("IP fragments that are cut off")
        if offset not in datagram.parts:
            datagram.parts[offset] = part
            datagram.held += len(part)
            self._held += len(part)
        if not more:
            datagram.size = offset + len(part)
        whole = datagram.whole()
        if whole is None:
            while len(self._datagrams) > MAX_DATAGRAMS or self._held > MAX_FRAGMENTS:
                self._give_up(next(iter(self._datagrams)))
            return None
        del self._datagrams[key]
        self._held -= datagram.held
        if version == 4:
            # Length 0: the segment goes on to the end of the data.
            return memoryview(struct.pack(">BBHHHBBH", 0x45, 0, 0, 0, 0, 64, kind, 0) + addresses + whole)
        return memoryview(struct.pack(">IHBB", 6 << 28, 0, kind, 64) + addresses + whole)

    def _give_up(self, key: bytes) -> None:
        datagram = self._datagrams.pop(key)
        self._held -= datagram.held
        self._skip("incomplete IP fragments", [], datagram.packets)

    def _skip(self, reason: str, outer: list[str], packets: int = 1) -> None:
        name = f"{reason} in {outer[-1]}" if outer and not reason.startswith(outer[-1]) else reason
        self.skipped[name if name in self.skipped or len(self.skipped) < MAX_NAMES else OTHERS] += packets


def _ip_header(data: memoryview, at: int, length: int) -> tuple[int, bytes, int, int]:
    """Return protocol (-1 for a fragment), addresses, and start and end of the payload of an IP packet."""
    version = data[at] >> 4
    if version == 4:
        header = (data[at] & 0x0F) * 4
        if header < 20:
            raise Skipped("IP with a broken header")
        total, field = _SHORT.unpack_from(data, at + 2)[0], _SHORT.unpack_from(data, at + 6)[0]
        protocol = -1 if field & 0x3FFF else data[at + 9]
        protocol, start = _authenticated(data, protocol, at + header)
        return protocol, bytes(data[at + 12 : at + 20]), start, at + total if total else length
    if version != 6:
        raise Skipped(f"IP version {version}")
    total = _SHORT.unpack_from(data, at + 4)[0]
    addresses = bytes(data[at + 8 : at + 40])
    if len(addresses) < 32:
        raise IndexError
    end = at + 40 + total if total else length
    protocol, start = data[at + 6], at + 40
    while protocol in _EXTENSIONS:
        protocol, start = data[start], start + 8 + data[start + 1] * 8
    if protocol == _FRAGMENT:
        # A fragment that is the whole packet needs no others.
        alone = not _SHORT.unpack_from(data, start + 2)[0] & ~6
        return data[start] if alone else -1, addresses, start + 8, end
    protocol, start = _authenticated(data, protocol, start)
    return protocol, addresses, start, end


def _authenticated(data: memoryview, protocol: int, start: int) -> tuple[int, int]:
    """Pass over the authentication header of IPsec (RFC 4302), which encrypts nothing."""
    if protocol == _AUTHENTICATION:
        return data[start], start + (data[start + 1] + 2) * 4
    return protocol, start


def _udp(data: memoryview, at: int) -> layers.Step:
    source, destination = struct.unpack_from(">HH", data, at)
    layer = layers.UDP_PORTS.get(destination) or layers.UDP_PORTS.get(source)
    if layer is None:
        raise Skipped("UDP")
    return layer, at + 8
