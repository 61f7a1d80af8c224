"""Decode capture files to events and tensors as a stream; memory is bounded by the largest message."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from adversary.tap.decode import splithead, tcp
from adversary.tap.decode.connection import Connection, Lost, Recognised
from adversary.tap.decode.events import (
    CallEnded,
    MessageSeen,
    Note,
    PacketsSkipped,
    StreamEnded,
    StreamSeen,
    Transport,
)
from adversary.tap.decode.flower import FlowerDecoder
from adversary.tap.decode.grpc import CallBroken, Message
from adversary.tap.decode.observation import Observation
from adversary.tap.decode.packets import pcap
from adversary.tap.decode.packets.capture import Capture, Progress, segments
from adversary.tap.decode.packets.segments import SegmentReader
from adversary.tap.decode.payload import Budget, reason_of
from adversary.tap.decode.shapes import method_of
from adversary.tap.decode.traffic import bursts, traffic
from wireleak.common.words import printable

Event = StreamSeen | MessageSeen | Observation | CallEnded | StreamEnded | PacketsSkipped | Note

# The headers of a packet, at least: bytes of the file that a stream does not see.
_PACKET = 56
# The work for a message that is decoded.
_WORK = 15

_log = logging.getLogger(__name__)


def observations(paths: Sequence[Path | str]) -> Iterator[Observation]:
    """Yield every tensor in the captures, in order of time.

    Several captures are merged by time, because data of one link may be needed to decode another: Flower does not send
    an object again that the other side already holds. Losses and truncation are logged as warnings.

    Raises
    ------
    CaptureError
        A file is empty, missing or not a capture.
    """
    for event in events(paths):
        if isinstance(event, Observation):
            yield event
        else:
            warn(event)


def warn(event: Event) -> None:
    """Log an event that tells of something lost or broken."""
    if isinstance(event, Note):
        _log.warning("%s: %s", event.capture, event.reason)
    elif isinstance(event, StreamEnded) and event.broken:
        _log.warning("%s: %s", event.stream, event.reason)
    elif isinstance(event, CallEnded):
        _log.warning("%s %s: %s", event.call, event.method, event.reason)


def events(
    paths: Sequence[Path | str], *, tensors: bool = True, progress: Progress = lambda count: None
) -> Iterator[Event]:
    """Yield all events of the captures, in order of time.

    Parameters
    ----------
    paths : sequence of Path or str
        Captures: pcap, pcapng or snoop, also compressed by gzip, bzip2 or zstd; pipes, or "-" for standard input.
    tensors : bool
        With False, messages are listed with their sizes and no tensor is decoded.
    progress : callable
        Called with the number of bytes after each piece of a file that was read.

    Raises
    ------
    CaptureError
        A file is empty, missing or not a capture.
    """
    captures = [Capture(Path(path)) for path in paths]
    payloads = _Payloads(tensors)
    readers = [_Reader(str(capture.path), payloads) for capture in captures]
    for number, segment in segments(captures, progress):
        yield from readers[number].feed(segment)
    for reader, capture in zip(readers, captures, strict=True):
        yield from reader.finish()
        for protocol, packets in capture.segments.skipped.items():
            yield PacketsSkipped(str(capture.path), protocol, packets)
        if capture.note:
            yield Note(str(capture.path), capture.note)
    yield from payloads.finish()


class Connections(NamedTuple):
    """The connections in captures: how many were seen from start to end, how many there are, and what others lack."""

    whole: int
    all: int
    late: bool
    cut: bool


def connections(paths: Sequence[Path | str]) -> Connections:
    """Count the connections that carried bytes; `late`: a start is missing; `cut`: an end, or bytes before it."""
    carried: set[str] = set()
    late: set[str] = set()
    cut: set[str] = set()
    for event in events(paths, tensors=False):
        if isinstance(event, StreamSeen) and event.late:
            late.add(event.stream)
        elif isinstance(event, StreamEnded):
            carried |= {event.stream} if event.bytes else set()
            cut |= {event.stream} if event.broken or event.reason == tcp.CAPTURE_ENDS else set()
    whole = carried - late - cut
    return Connections(len(whole), len(carried), bool(late & carried), bool(cut & carried))


class GrowingCapture:
    """Decoder of one capture whose bytes still arrive: sans-IO, like `events` for a file that grows.

    Parameters
    ----------
    name : str
        The capture's name in events.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._payloads = _Payloads(tensors=True)
        self._reader = _Reader(name, self._payloads)
        self._start = b""
        self._packets: pcap.Decoder | None = None
        self._segments = SegmentReader()

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events that the next bytes of the file complete.

        Raises
        ------
        CaptureError
            The bytes are no capture, or broken from here on.
        """
        if self._packets is None:
            data = self._start + data
            if len(data) < 8:
                self._start = data
                return
            self._packets = pcap.decoder(data[:8])
        for packet in self._packets.feed(data):
            segment = self._segments.read(packet)
            if segment is not None:
                yield from self._reader.feed(segment)

    def finish(self) -> Iterator[Event]:
        """End every stream that is still open, as at the end of a file."""
        yield from self._reader.finish()
        self._segments.finish()
        for protocol, packets in self._segments.skipped.items():
            yield PacketsSkipped(self._name, protocol, packets)
        yield from self._payloads.finish()


class _Payloads:
    """Decoder of messages to tensors; all captures share one, as links complete one another."""

    def __init__(self, tensors: bool) -> None:
        self._tensors = tensors
        self.budget = Budget()
        self._flower = FlowerDecoder(self.budget)

    def wanted(self, method: str) -> bool:
        """Return whether the method's messages are needed, or only their sizes."""
        return self._tensors and (splithead.decodes(method) or self._flower.decodes(method))

    def decode(self, message: Message, call: str, sender: str) -> Iterator[Event]:
        """Yield the tensors of one message, or an event with the reason why it has none."""
        if message.data is None:
            return
        method, client, time = message.method, message.client, message.time
        try:
            self.budget.spend(_WORK)
            if splithead.decodes(method):
                for kind, tensor in splithead.tensors(method, client, message.data):
                    yield Observation(kind, tensor, "", sender, call, message.sequence, time, inferred=message.inferred)
            else:
                for one in self._flower.feed(method, client, message.data, call, sender, time):
                    if message.inferred or not one.name.isprintable():
                        one = replace(one, name=printable(one.name), inferred=message.inferred)
                    yield one
        except Exception as error:
            yield CallEnded(call, printable(method), client, time, printable(reason_of(error)))

    def finish(self) -> Iterator[Event]:
        """Yield an event for each message that was never completed."""
        for pending in self._flower.finish():
            method = "/flwr.proto.Fleet/" + ("PushMessages" if pending.client else "PullMessages")
            yield CallEnded(pending.call, method, pending.client, pending.time, pending.reason)


class _Reader:
    """The streams of one capture."""

    def __init__(self, name: str, payloads: _Payloads) -> None:
        self._name = name
        self._payloads = payloads
        self._reassembler = tcp.Reassembler()
        self._streams: dict[int, _Stream] = {}

    def feed(self, segment: tcp.Segment) -> Iterator[Event]:
        """Decode one segment."""
        for event in self._reassembler.feed(segment):
            yield from self._tcp(event)

    def finish(self) -> Iterator[Event]:
        """End every stream that is still open."""
        for event in self._reassembler.finish():
            yield from self._tcp(event)

    def _tcp(self, event: tcp.Chunk | tcp.Ended) -> Iterator[Event]:
        number = event.stream.index
        stream = self._streams.get(number)
        if stream is None:
            name = f"{self._name}#{number}"
            stream = self._streams[number] = _Stream(name, event.stream, self._payloads)
        if type(event) is tcp.Chunk:
            yield from stream.feed(event.side, event.time, event.data, event.stream.late(event.side))
        elif type(event) is tcp.Ended:
            yield from stream.end(event)
            if all(stream.over):
                del self._streams[number]


class _Stream:
    """One TCP stream."""

    def __init__(self, name: str, stream: tcp.TcpStream, payloads: _Payloads) -> None:
        self._name = name
        self._ends = stream.endpoints
        self._began = stream.time
        self._payloads = payloads
        self._connection = Connection(payloads.wanted, payloads.budget, method_of)
        self._recognised = False
        self._bytes = [0, 0]
        self._endings: list[tcp.Ended] = []
        self._lost = ["", ""]
        self.over = [False, False]

    def feed(self, side: int, time: float, data: memoryview, late: bool) -> Iterator[Event]:
        """Decode the next bytes of one direction; after bytes that cannot be decoded, only count them."""
        self._bytes[side] += len(data)
        self._payloads.budget.earn(len(data) + _PACKET)
        for event in self._connection.feed(side, time, data, late):
            yield from self._translate(event)

    def end(self, ended: tcp.Ended) -> Iterator[Event]:
        """End one direction."""
        side, time = ended.side, ended.time
        self.over[side] = True
        for event in self._connection.end(side, time):
            yield from self._translate(event)
        # The transport may not be recognised yet. Until then it is unknown which side is the client, so ends wait.
        self._endings.append(ended)
        if not self._recognised and all(self.over):
            yield StreamSeen(self._name, *self._ends, Transport.OTHER, self._began)
            self._recognised = True
        if self._recognised:
            yield from self._endings_seen()

    def _endings_seen(self) -> Iterator[Event]:
        for ended in self._endings:
            side, lost = ended.side, self._lost[ended.side]
            client, broken = side == self._connection.client, ended.broken or bool(lost)
            yield StreamEnded(self._name, client, ended.time, lost or ended.reason, broken, self._bytes[side])
        self._endings.clear()

    def _translate(self, event: Recognised | Lost | Message | CallBroken) -> Iterator[Event]:
        client = self._connection.client
        if type(event) is Message:
            call = f"{self._name}/{event.call}"
            method = event.method if event.method.isprintable() else printable(event.method)
            yield MessageSeen(call, method, event.client, event.sequence, event.time, event.size, event.inferred)
            yield from self._payloads.decode(event, call, self._ends[client if event.client else 1 - client])
        elif type(event) is CallBroken:
            call = f"{self._name}/{event.call}"
            yield CallEnded(call, printable(event.method), event.client, event.time, printable(event.reason))
        elif type(event) is Lost:
            self._lost[event.side] = printable(event.reason)
        elif type(event) is Recognised:
            self._recognised = True
            yield StreamSeen(
                self._name, self._ends[client], self._ends[1 - client], event.transport, self._began, event.late
            )


__all__ = ["Event", "GrowingCapture", "Observation", "bursts", "events", "observations", "traffic"]
