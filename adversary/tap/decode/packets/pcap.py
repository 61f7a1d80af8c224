"""Decode capture files to packets: classic pcap (both endiannesses, microseconds and nanoseconds), pcapng and snoop.

Bytes in, packets out. Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng and RFC 1761.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

# Far above any packet of an interface (tcpdump's own limit is 256 KiB).
MAX_PACKET = 1 << 24

_CLASSIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}
# libpcap as patched by Alexey Kuznetzov: eight more bytes in the header of a packet.
_PATCHED = {b"\x34\xcd\xb2\xa1": "<", b"\xa1\xb2\xcd\x34": ">"}
_SNOOP = b"snoop\0\0\0"
# Link types of snoop by those of pcap: IEEE 802.3, Ethernet, HDLC.
_SNOOP_LINKS = {0: 1, 4: 1, 5: 104}
_SNOOP_OTHERS = 10_000
_PCAPNG = b"\x0a\x0d\x0d\x0a"


class CaptureError(ValueError):
    """A capture file cannot be read, or not to its end; the message is one line."""


class Packet(NamedTuple):
    """One captured packet.

    `time` is in seconds since the epoch and `link` is the file format's link type. `data` are the captured bytes and
    `length` is the packet's size on the wire, bytes.
    """

    time: float
    link: int
    data: memoryview
    length: int


class Decoder(Protocol):
    """A decoder of a capture format; it takes the file's bytes in pieces of any size."""

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that `data` completes.

        Raises
        ------
        CaptureError
            The bytes do not follow this format, from the start or from some point on.
        """
        ...

    def pending(self) -> int:
        """Return the bytes of an unfinished packet; more than 0 at the file's end means that it is truncated."""
        ...


def decoder(start: bytes) -> Decoder:
    """Return the decoder for a file by its first bytes, which must still be fed to it.

    Raises
    ------
    CaptureError
        The file is empty or not a capture.
    """
    if not start:
        raise CaptureError("is empty")
    if start[:4] == _PCAPNG:
        return PcapNg()
    if start[:4] in _CLASSIC or start[:4] in _PATCHED:
        return Pcap()
    if start[:8] == _SNOOP:
        return Snoop()
    raise CaptureError("is not a capture: it starts with the magic number of neither pcap nor pcapng nor snoop")


class Pcap:
    """Classic pcap."""

    def __init__(self) -> None:
        self._held = b""
        self._record: struct.Struct | None = None
        self._link = 0
        self._tick = 1e-6

    def pending(self) -> int:
        """Return the bytes held of an unfinished packet or header."""
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that `data` completes; raise `CaptureError` if a record's header is impossible."""
        position = 0
        if self._record is None:
            data, self._held = self._held + data, b""
            if len(data) < 24:
                self._held = data
                return
            order, self._tick = _CLASSIC.get(data[:4], (_PATCHED.get(bytes(data[:4]), ""), 1e-6))
            if not order:
                raise CaptureError("is not a capture")
            # The upper bits of the link type may hold the FCS length.
            self._link = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
            self._record = struct.Struct(order + ("IIII8x" if data[:4] in _PATCHED else "IIII"))
            position = 24
        unpack, link, tick, head = self._record.unpack_from, self._link, self._tick, self._record.size
        if self._held:
            # Only the packet that lies across two pieces is copied.
            held = self._held + data[: max(head - len(self._held), 0)]
            size = head + self._kept(unpack(held, 0)[2]) if len(held) >= head else head
            position = max(size - len(self._held), 0)
            self._held += data[:position]
            if len(self._held) < size or size == head > len(held):
                return
            seconds, fraction, _, length = unpack(self._held, 0)
            whole, self._held = memoryview(self._held), b""
            yield Packet(seconds + fraction * tick, link, whole[head:], length)
        view, end = memoryview(data), len(data)
        while position + head <= end:
            seconds, fraction, kept, length = unpack(data, position)
            start = position + head
            following = start + self._kept(kept)
            if following > end:
                break
            yield Packet(seconds + fraction * tick, link, view[start:following], length)
            position = following
        self._held = bytes(view[position:])

    def _kept(self, size: int) -> int:
        """Check the size of a packet."""
        if size > MAX_PACKET:
            self._held = b""
            raise CaptureError(f"is broken: a packet claims {size} bytes")
        return size


class Snoop:
    """The format of snoop, from Solaris."""

    _HEADER, _RECORD = struct.Struct(">8sII"), struct.Struct(">IIIIII")

    def __init__(self) -> None:
        self._held = b""
        self._link: int | None = None

    def pending(self) -> int:
        """Return the bytes held of an unfinished packet or header."""
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that `data` completes; raise `CaptureError` if a record's header is impossible."""
        buffer, position = self._held + data, 0
        if self._link is None:
            if len(buffer) < self._HEADER.size:
                self._held = buffer
                return
            _, version, link = self._HEADER.unpack_from(buffer)
            if version != 2:
                raise CaptureError(f"is not a capture: snoop's version {version} is unknown")
            self._link = _SNOOP_LINKS.get(link, _SNOOP_OTHERS + link)
            position = self._HEADER.size
        view, end = memoryview(buffer), len(buffer)
        while position + self._RECORD.size <= end:
            length, kept, size, _, seconds, fraction = self._RECORD.unpack_from(buffer, position)
            start, following = position + self._RECORD.size, position + size
            if kept > MAX_PACKET or not self._RECORD.size + kept <= size <= MAX_PACKET:
                self._held = b""
                raise CaptureError(f"is broken: a packet claims {kept} bytes")
            if following > end:
                break
            yield Packet(seconds + fraction * 1e-6, self._link, view[start : start + kept], length)
            position = following
        self._held = bytes(view[position:])


class PcapNg:
    """Pcapng, with any number of sections and interfaces."""

    def __init__(self) -> None:
        self._held = b""
        self._order = "<"
        self._interfaces: list[tuple[int, float, int]] = []  # link type, seconds per tick, snap length
        self._started = False

    def pending(self) -> int:
        """Return the bytes held of an unfinished block."""
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that `data` completes; raise `CaptureError` if a block is impossible."""
        buffer = self._held + data if self._held else data
        view, end, position = memoryview(buffer), len(buffer), 0
        self._held = b""
        while position + 12 <= end:
            if buffer[position : position + 4] == _PCAPNG:
                self._section(buffer[position + 8 : position + 12])
            elif not self._started:
                raise CaptureError("is not a capture")
            kind, size = struct.unpack_from(self._order + "II", buffer, position)
            if size < 12 or size % 4 or size > MAX_PACKET:
                raise CaptureError(f"is broken: a block claims {size} bytes")
            if position + size > end:
                break
            body = view[position + 8 : position + size - 4]
            try:
                packet = self._block(kind, body)
            except struct.error as error:
                raise CaptureError("is broken: a block is shorter than its fields") from error
            if packet is not None:
                yield packet
            position += size
        self._held = bytes(view[position:])

    def _section(self, magic: bytes) -> None:
        if magic not in (b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"):
            raise CaptureError("is broken: a section's byte order is unknown")
        self._order = ">" if magic == b"\x1a\x2b\x3c\x4d" else "<"
        self._interfaces = []
        self._started = True

    def _block(self, kind: int, body: memoryview) -> Packet | None:
        order = self._order
        if kind == 1:
            link, _, snap = struct.unpack_from(order + "HHI", body)
            self._interfaces.append((link, self._tick(body[8:]), snap))
        elif kind == 6:
            interface, high, low, kept, length = struct.unpack_from(order + "IIIII", body)
            return self._packet(interface, (high << 32 | low), body[20 : 20 + kept], kept, length)
        elif kind == 3:
            (length,) = struct.unpack_from(order + "I", body)
            kept = min(length, (self._interfaces or [(0, 0.0, 0)])[0][2] or length)
            return self._packet(0, 0, body[4 : 4 + kept], kept, length)
        elif kind == 2:
            interface, _, high, low, kept, length = struct.unpack_from(order + "HHIIII", body)
            return self._packet(interface, (high << 32 | low), body[20 : 20 + kept], kept, length)
        return None

    def _packet(self, interface: int, ticks: int, data: memoryview, kept: int, length: int) -> Packet:
        if interface >= len(self._interfaces):
            raise CaptureError(f"is broken: interface {interface} is not described")
        if len(data) != kept:
            raise CaptureError("is broken: a packet is longer than its block")
        link, tick, _ = self._interfaces[interface]
        return Packet(ticks * tick, link, data, length)

    def _tick(self, options: memoryview) -> float:
        """Return seconds per tick: the option if_tsresol, or microseconds without it."""
        position = 0
        while position + 4 <= len(options):
            code, size = struct.unpack_from(self._order + "HH", options, position)
            if code == 0:
                break
            if code == 9 and size == 1 and position + 4 < len(options):
                value = options[position + 4]
                return float(2.0 ** -(value & 0x7F) if value & 0x80 else 10.0**-value)
            position += 4 + (size + 3 & ~3)
        return 1e-6
