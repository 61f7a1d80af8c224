"""Counts of the streams, calls and tensors in captures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from adversary.tap.decode.events import CallEnded, MessageSeen, Note, PacketsSkipped, StreamEnded, StreamSeen
from adversary.tap.decode.observation import Observation
from adversary.tap.decode.read import Event

# Most streams, methods, senders, faults and tensor shapes that are listed: a hostile capture could have any number.
MAX_ROWS = 10_000
# The row of all methods, or of all senders, beyond those.
OTHERS = "others"


@dataclass
class Direction:
    """Messages and bytes that one side sent."""

    messages: int = 0
    bytes: int = 0


@dataclass
class StreamRow:
    """One TCP stream."""

    stream: str
    client: str
    server: str
    transport: str
    first: float
    last: float
    up: int = 0
    down: int = 0
    late: bool = False
    endings: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class MethodRow:
    """All calls of one method; `up` is from the client to the server."""

    method: str
    inferred: bool = False
    calls: int = 0
    up: Direction = field(default_factory=Direction)
    down: Direction = field(default_factory=Direction)


@dataclass
class TensorRow:
    """All tensors of one kind, layer name, shape and dtype."""

    kind: str
    name: str
    shape: list[int]
    dtype: str
    inferred: bool = False
    count: int = 0
    bytes: int = 0


def capture_of(event: Event) -> str:
    """Return the capture file that an event comes from."""
    if isinstance(event, Note | PacketsSkipped):
        return event.capture
    return (event.stream if isinstance(event, StreamSeen | StreamEnded) else event.call).rpartition("#")[0]


class Summary:
    """Counts of the events of `adversary.tap.decode.read.events`; memory grows only with distinct rows."""

    def __init__(self) -> None:
        self.streams: dict[str, StreamRow] = {}
        self.more_streams = 0
        self.methods: dict[tuple[str, bool], MethodRow] = {}
        self.tensors: dict[tuple[Any, ...], TensorRow] = {}
        self.senders: dict[str, dict[str, int]] = {}
        self.faults: list[str] = []
        self.notes: list[str] = []
        self.skipped: dict[str, int] = {}
        self.first: float | None = None
        self.last: float | None = None

    def add(self, events: Iterable[Event]) -> Summary:
        """Count all events, and return self."""
        for event in events:
            self.add_one(event)
        return self

    def add_one(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, MessageSeen):
            self._message(event)
        elif isinstance(event, Observation):
            self._tensor(event)
        elif isinstance(event, StreamSeen):
            row = StreamRow(event.stream, event.client, event.server, event.transport, event.time, event.time)
            row.late = event.late
            if len(self.streams) < MAX_ROWS:
                self.streams[event.stream] = row
            else:
                self.more_streams += 1
            self._moment(event.time)
            if event.late:
                what = "the start of the connection is missing from the capture; what follows is read"
                self._fault(f"{event.stream}: {what}, and methods that were named before are inferred")
        elif isinstance(event, StreamEnded):
            self._ending(event)
        elif isinstance(event, CallEnded):
            self._fault(f"{event.call} {event.method}: {event.reason}")
        elif isinstance(event, PacketsSkipped):
            self.skipped[event.protocol] = self.skipped.get(event.protocol, 0) + event.packets
        elif isinstance(event, Note):
            self.notes.append(f"{event.capture}: {event.reason}")

    def as_dict(self) -> dict[str, Any]:
        """Return all counts as plain JSON values; times in seconds since the epoch, sizes in bytes."""
        duration = None if self.first is None or self.last is None else self.last - self.first
        return {
            "first": self.first,
            "last": self.last,
            "duration": duration,
            "endpoints": sorted({end for row in self.streams.values() for end in (row.client, row.server)}),
            "streams": [vars(row) for row in self.streams.values()],
            "more_streams": self.more_streams,
            "calls": [vars(row) | {"up": vars(row.up), "down": vars(row.down)} for row in self.methods.values()],
            "kinds": {kind: sum(counts.values()) for kind, counts in self.senders.items()},
            "senders": self.senders,
            "tensors": [vars(row) for row in self.tensors.values()],
            "skipped": self.skipped,
            "faults": self.faults,
            "notes": self.notes,
        }

    def _message(self, event: MessageSeen) -> None:
        key = event.method, event.inferred
        row = self.methods.get(key)
        if row is None:
            key = key if len(self.methods) < MAX_ROWS else (OTHERS, False)
            row = self.methods.setdefault(key, MethodRow(*key))
        row.calls += event.client and event.sequence == 0
        direction = row.up if event.client else row.down
        direction.messages += 1
        direction.bytes += event.size
        self._moment(event.time)

    def _tensor(self, event: Observation) -> None:
        counts = self.senders.setdefault(event.kind, {})
        sender = event.sender if event.sender in counts or len(counts) < MAX_ROWS else OTHERS
        counts[sender] = counts.get(sender, 0) + 1
        tensor = event.tensor
        key = (event.kind, event.name, tensor.shape, tensor.dtype, event.inferred)
        row = self.tensors.get(key)
        if row is None:
            if len(self.tensors) >= MAX_ROWS:
                return
            row = self.tensors[key] = TensorRow(*key[:2], list(tensor.shape), str(tensor.dtype), event.inferred)
        row.count += 1
        row.bytes += tensor.nbytes

    def _ending(self, event: StreamEnded) -> None:
        self._moment(event.time)
        if event.broken:
            self._fault(f"{event.stream} {'client' if event.client else 'server'}: {event.reason}")
        row = self.streams.get(event.stream)
        if row is None:
            return
        row.last = max(row.last, event.time)
        if event.client:
            row.up = event.bytes
        else:
            row.down = event.bytes
        side = "client" if event.client else "server"
        row.endings.append({"side": side, "reason": event.reason, "broken": event.broken})

    def _moment(self, time: float) -> None:
        self.first = time if self.first is None else min(self.first, time)
        self.last = time if self.last is None else max(self.last, time)

    def _fault(self, text: str) -> None:
        if len(self.faults) < MAX_ROWS:
            self.faults.append(text)
