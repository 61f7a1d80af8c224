"""Sizes and times of messages, which are visible on an encrypted link too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from adversary.tap.decode import tcp
from adversary.tap.decode.connection import recognise
from adversary.tap.decode.events import Transport
from adversary.tap.decode.packets.capture import Capture, segments
from adversary.tap.decode.payload import ProtocolError
from adversary.tap.decode.tls import APPLICATION_DATA, TlsSide


class SentBytes(NamedTuple):
    """Bytes that one side sent at once: a TLS application-data record, or otherwise the new bytes of a packet.

    `up` is true from client to server. `time` is that of the packet that completes it, in seconds since the epoch.
    """

    stream: str
    client: str
    server: str
    transport: Transport
    time: float
    up: bool
    bytes: int


def traffic(paths: Sequence[Path | str]) -> Iterator[SentBytes]:
    """Yield sizes and times of every TCP stream in the captures, in order of time.

    Handshakes, alerts, retransmissions and packets without payload are left out. If a capture lost bytes, or its snap
    length cut them off, the rest of that direction is counted packet by packet.

    Raises
    ------
    CaptureError
        A file is empty, missing or not a capture.
    """
    captures = [Capture(Path(path)) for path in paths]
    links = [_Link(str(capture.path)) for capture in captures]
    for number, segment in segments(captures, lambda count: None):
        yield from links[number].feed(segment)
    for link in links:
        yield from link.finish()


def bursts(records: Iterable[SentBytes], gap: float = 0.05) -> Iterator[SentBytes]:
    """Join consecutive records of one direction of a stream, unless more than `gap` seconds lie between them.

    A burst has the time of its last record.
    """
    current: dict[str, SentBytes] = {}
    for record in records:
        last = current.get(record.stream)
        if last is not None and last.up == record.up and record.time - last.time <= gap:
            record = record._replace(bytes=last.bytes + record.bytes)
        elif last is not None:
            yield last
        current[record.stream] = record
    yield from sorted(current.values(), key=lambda record: record.time)


class _Link:
    """The streams of one capture."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reassembler = tcp.Reassembler()
        self._streams: dict[int, _Stream] = {}
        self._lost: dict[bytes, tuple[_Stream, int]] = {}

    def feed(self, segment: tcp.Segment) -> Iterator[SentBytes]:
        lost = self._lost.get(segment.flow)
        if lost is not None and not segment.flags & tcp.SYN:
            stream, side = lost
            size = len(segment.data) + segment.cut
            if size:
                yield stream.record(side, segment.time, size)
            return
        for event in self._reassembler.feed(segment):
            if type(event) is tcp.Ended and event.broken and event.side == event.stream.side_of(segment.flow):
                stream = self._stream(event.stream)
                self._lost[segment.flow] = stream, event.side
                if segment.cut:
                    yield stream.record(event.side, segment.time, len(segment.data) + segment.cut)
            records = self._event(event)
            if segment.cut:
                # Consumed only to recognise the transport: the packet is already counted above.
                list(records)
            else:
                yield from records

    def finish(self) -> Iterator[SentBytes]:
        for event in self._reassembler.finish():
            yield from self._event(event)

    def _event(self, event: tcp.Chunk | tcp.Ended) -> Iterator[SentBytes]:
        stream = self._stream(event.stream)
        if type(event) is tcp.Chunk:
            yield from stream.feed(event.side, event.time, event.data)
        elif type(event) is tcp.Ended:
            stream.over[event.side] = True
            if all(stream.over):
                self._streams.pop(event.stream.index, None)

    def _stream(self, stream: tcp.TcpStream) -> _Stream:
        name = f"{self._name}#{stream.index}"
        return self._streams.setdefault(stream.index, _Stream(name, stream.endpoints))


class _Stream:
    """One TCP stream: which side is the client, and its TLS records if it has any."""

    def __init__(self, name: str, ends: tuple[str, str]) -> None:
        self._name = name
        self._ends = ends
        self._client = 0
        self._transport = Transport.OTHER
        self._tls = (TlsSide(), TlsSide())
        self._broken = [False, False]
        self._known = False
        self.over = [False, False]

    def feed(self, side: int, time: float, data: memoryview) -> Iterator[SentBytes]:
        if not self._known:
            # The first packet decides: a sender does not split its first few bytes.
            recognised = recognise(bytes(data[:24]))
            self._known = True
            if recognised is not None:
                self._transport, asks = recognised
                self._client = side if asks else 1 - side
        if self._transport is not Transport.TLS or self._broken[side]:
            yield self.record(side, time, len(data))
            return
        try:
            for record in self._tls[side].feed(time, data):
                if record.type == APPLICATION_DATA:
                    yield self.record(side, time, record.size)
        except ProtocolError:
            self._broken[side] = True

    def record(self, side: int, time: float, size: int) -> SentBytes:
        ends, client = self._ends, self._client
        return SentBytes(self._name, ends[client], ends[1 - client], self._transport, time, side == client, size)
