"""Write the TCP conversations of a relay as a pcap of synthetic segments.

The file is classic pcap with nanosecond times and link type RAW (bare IPv4 or IPv6 packets), which Wireshark, tshark
and tcpdump open [1]_. A relay sees byte streams, not packets, so the segments are synthetic: one handshake, data as it
arrived, acknowledgements, FIN or RST. Times, endpoints and bytes are real. The TCP checksum holds only the sum of the
pseudo-header, as in any capture of a loopback link (RFC 1071 sums are left to the network card there).

.. [1] G. Harris and M. Richardson, "PCAP Capture File Format", draft-ietf-opsawg-pcap.
"""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

NANOSECOND_MAGIC = 0xA1B23C4D
LINKTYPE_RAW = 101
SNAPLEN = 262_144
# An IPv4 packet's length is a 16-bit field that counts 20 bytes of IP and 20 of TCP header.
MAX_PAYLOAD = 65_535 - 40

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

_FILE_HEADER = struct.pack("<IHHiIII", NANOSECOND_MAGIC, 2, 4, 0, 0, SNAPLEN, LINKTYPE_RAW)
_RECORD = struct.Struct("<IIII")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_TCP = struct.Struct("!HHIIBBHHH")
# MSS 65495 and window scale 14: with a window of 1 GiB no segment ever looks like an overrun.
_SYN_OPTIONS = struct.pack("!BBHBBBB", 2, 4, MAX_PAYLOAD, 3, 3, 14, 0)
_TTL = 64
_WINDOW = 65_535
_ISN_STEP = 64_009
# The kernel takes at most 1024 pieces in one writev, and a long writev may keep other threads from running.
_MAX_PIECES, _MAX_WRITE = 1024, 256 << 10

Endpoint = tuple[str, int]
# Conversation, side, payload and time (ns).
_Arrival = tuple["Conversation", int, memoryview, int]


class CaptureWriteError(Exception):
    """A capture file cannot be created or written.

    Parameters
    ----------
    path : Path
        The file.
    error : OSError
        The error of the system.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        if isinstance(error, FileExistsError):
            text = f"{path} exists already; captures are never overwritten: move it or name another file"
        else:
            text = f"cannot write {path}: {error.strerror or error}"
        super().__init__(text)
        self.path = path


@dataclass
class RecordBatch:
    """Whole records that are not written yet: `pieces` in order, and each record's size in bytes."""

    pieces: list[bytes | memoryview] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


class CaptureWriter:
    """A pcap file that is created at once and always ends at a packet boundary.

    Records collect in a batch (`add`), which one thread takes (`take`) and another may write (`write`). Until then
    data that arrived is only noted (`defer`), so that making headers does not delay forwarding.

    Parameters
    ----------
    path : Path
        The file; it must not exist.

    Raises
    ------
    CaptureWriteError
        The file exists, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._batch = RecordBatch()
        self._arrivals: list[_Arrival] = []
        self._end = 0
        self._conversations = 0
        self._unacknowledged: set[Conversation] = set()
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise CaptureWriteError(path, error) from error
        try:
            self.write(RecordBatch([_FILE_HEADER], [len(_FILE_HEADER)]))
        except CaptureWriteError:
            path.unlink()
            raise

    def converse(self, client: Endpoint, server: Endpoint, now: int) -> Conversation:
        """Record the handshake of a new connection at `now` (ns since the epoch)."""
        self.settle()
        self._conversations += 1
        return Conversation(self, client, server, (self._conversations * _ISN_STEP) & 0xFFFFFFFF, now)

    def add(self, header: bytes, payload: memoryview | None = None) -> None:
        """Add one record to the batch; `payload` must stay unchanged until it is written."""
        self._batch.pieces.append(header)
        size = len(header)
        if payload is not None:
            self._batch.pieces.append(payload)
            size += len(payload)
        self._batch.sizes.append(size)

    def defer(self, arrival: _Arrival) -> None:
        """Note data that arrived; its payload must stay unchanged until it is written."""
        self._arrivals.append(arrival)

    def settle(self) -> None:
        """Make the records of all deferred data, before any later record."""
        arrivals, self._arrivals = self._arrivals, []
        for conversation, side, payload, now in arrivals:
            conversation.segments(side, payload, now)
            self._unacknowledged.add(conversation)

    def take(self, now: int) -> RecordBatch:
        """Acknowledge all data that is still unacknowledged at `now` (ns), and return the batch."""
        self.settle()
        for conversation in self._unacknowledged:
            conversation.acknowledge(now)
        self._unacknowledged.clear()
        batch, self._batch = self._batch, RecordBatch()
        return batch

    def write(self, batch: RecordBatch) -> None:
        """Append a batch to the file.

        Raises
        ------
        CaptureWriteError
            The file cannot grow. It is cut after the last whole packet and closed.
        """
        try:
            for pieces in _portions(batch.pieces):
                _write_all(self._file, pieces)
        except OSError as error:
            self._truncate(batch.sizes)
            raise CaptureWriteError(self.path, error) from error
        self._end += sum(batch.sizes)

    def close(self) -> None:
        """Close the file; records not written are lost."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _truncate(self, sizes: list[int]) -> None:
        if self._file < 0:
            return
        reached = os.lseek(self._file, 0, os.SEEK_CUR)
        for size in sizes:
            if self._end + size > reached:
                break
            self._end += size
        os.ftruncate(self._file, self._end)
        self.close()


class Conversation:
    """One connection in a capture, as synthetic TCP segments.

    Parameters
    ----------
    capture : CaptureWriter
        The file that gets the segments.
    client, server : tuple of str and int
        Address and port of both ends.
    isn : int
        Initial sequence number of both ends.
    now : int
        Time of the handshake, ns since the epoch.
    """

    def __init__(self, capture: CaptureWriter, client: Endpoint, server: Endpoint, isn: int, now: int) -> None:
        self._capture = capture
        self._ip = _IpHeader(client[0], server[0])
        self._ports = (client[1], server[1])
        # Index 0 is the client's side, 1 the server's.
        self._next = [isn, isn]
        self._acknowledged = [0, 0]
        self._segment(0, SYN, now, options=_SYN_OPTIONS)
        self._segment(1, SYN | ACK, now, options=_SYN_OPTIONS)
        self._segment(0, ACK, now)

    def data(self, side: int, payload: memoryview, now: int) -> None:
        """Record bytes that `side` (0 client, 1 server) sent, at the time of their arrival (ns)."""
        self._capture.defer((self, side, payload, now))

    def segments(self, side: int, payload: memoryview, now: int) -> None:
        """Make the records of deferred data."""
        for start in range(0, len(payload), MAX_PAYLOAD):
            self._segment(side, PSH | ACK, now, payload[start : start + MAX_PAYLOAD])

    def finish(self, side: int, now: int) -> None:
        """Record that `side` will send no more (FIN) and that the other acknowledges it."""
        self._capture.settle()
        self._segment(side, FIN | ACK, now)
        self._segment(1 - side, ACK, now)

    def reset(self, side: int, now: int) -> None:
        """Record that `side` reset the connection."""
        self._capture.settle()
        self._segment(side, RST | ACK, now)

    def acknowledge(self, now: int) -> None:
        """Record an ACK from each side that has received data since its last segment."""
        for side in (0, 1):
            if self._acknowledged[side] != self._next[1 - side]:
                self._segment(side, ACK, now)

    def _segment(
        self, side: int, flags: int, now: int, payload: memoryview | None = None, options: bytes = b""
    ) -> None:
        header = 20 + len(options)
        length = header if payload is None else header + len(payload)
        sequence = self._next[side]
        acknowledged = self._next[1 - side] if flags & ACK else 0
        self._acknowledged[side] = self._next[1 - side]
        ip, checksum = self._ip.pack(side, length)
        tcp = _TCP.pack(
            self._ports[side],
            self._ports[1 - side],
            sequence,
            acknowledged,
            header << 2,
            flags,
            _WINDOW,
            checksum,
            0,
        )
        seconds, nanoseconds = divmod(now, 1_000_000_000)
        size = len(ip) + length
        self._next[side] = (sequence + length - header + (flags & (SYN | FIN) != 0)) & 0xFFFFFFFF
        self._capture.add(_RECORD.pack(seconds, nanoseconds, size, size) + ip + tcp + options, payload)


class _IpHeader:
    """IPv4 or IPv6 headers between two hosts; IPv4 is mapped into IPv6 where the hosts differ in family."""

    def __init__(self, client: str, server: str) -> None:
        hosts = [_host(client), _host(server)]
        self._v4 = all(host.version == 4 for host in hosts)
        if not self._v4:
            hosts = [host if host.version == 6 else ipaddress.IPv6Address(f"::ffff:{host}") for host in hosts]
        self._hosts = (hosts[0].packed, hosts[1].packed)
        packed = b"".join(self._hosts)
        addresses = sum(struct.unpack(f"!{len(packed) // 2}H", packed))
        self._pseudo = addresses + 6
        self._constant = addresses + 0x4500 + 0x4000 + (_TTL << 8 | 6)

    def pack(self, side: int, length: int) -> tuple[bytes, int]:
        """Return the header for `length` bytes of TCP from `side`, and the sum of TCP's pseudo-header."""
        source, target = self._hosts[side], self._hosts[1 - side]
        pseudo = _fold(self._pseudo + length)
        if self._v4:
            checksum = _fold(self._constant + 20 + length) ^ 0xFFFF
            return _IPV4.pack(0x45, 0, 20 + length, 0, 0x4000, _TTL, 6, checksum, source, target), pseudo
        return _IPV6.pack(0x60000000, length, 6, _TTL, source, target), pseudo


def _host(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    host = ipaddress.ip_address(address.partition("%")[0])
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return mapped or host


def _portions(pieces: list[bytes | memoryview]) -> Iterator[list[bytes | memoryview]]:
    """Split the pieces into runs that fit into one writev."""
    portion: list[bytes | memoryview] = []
    size = 0
    for piece in pieces:
        portion.append(piece)
        size += len(piece)
        if size >= _MAX_WRITE or len(portion) == _MAX_PIECES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _write_all(file: int, pieces: list[bytes | memoryview]) -> None:
    total = sum(map(len, pieces))
    written = os.writev(file, pieces)
    if written < total:
        rest = memoryview(b"".join(pieces))
        while written < total:
            written += os.write(file, rest[written:])


def _fold(total: int) -> int:
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)
