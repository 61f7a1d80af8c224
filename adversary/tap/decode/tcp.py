"""Reassemble TCP segments to byte streams: reordering, retransmission, overlap, gaps, streams without a beginning.

Every direction holds at most `MAX_HELD` bytes that wait for an earlier segment, and all directions together at most
`MAX_HELD_TOGETHER`. A gap beyond that is a loss and ends its direction with a reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from adversary.tap.decode.ip import ACK, FIN, RST, SYN, Segment, endpoints, reverse
from wireleak.common.words import counted

MAX_HELD = 8 << 20
MAX_HELD_TOGETHER = 64 << 20
# Without a captured SYN, wait for so many segments; then the lowest one counts as the stream's beginning.
MAX_UNSYNCED = 64
MAX_STREAMS = 1 << 14

__all__ = ["RST", "SYN", "Chunk", "Ended", "Reassembler", "Segment", "TcpStream"]

CLOSED, RESET, CAPTURE_ENDS = "closed", "reset", "capture ends"


class TcpStream:
    """One TCP connection. Side 0 opened it, as far as the capture shows; `endpoints[side]` is "ip:port"."""

    __slots__ = ("endpoints", "index", "sides")

    def __init__(self, index: int, ends: tuple[str, str]) -> None:
        self.index = index
        self.endpoints = ends
        self.sides = (_Side(self, 0), _Side(self, 1))

    def side_of(self, flow: bytes) -> int | None:
        """Return the side that sends the segments of `flow`, None if they belong to another stream."""
        source, destination = endpoints(flow)
        return {self.endpoints: 0, self.endpoints[::-1]: 1}.get((source, destination))


class Chunk(NamedTuple):
    """The next bytes of one direction, sent by `side`. `data` is valid only until the next packet is fed."""

    stream: TcpStream
    side: int
    time: float
    data: memoryview


class Ended(NamedTuple):
    """One direction is over; `broken`: its further bytes are lost or wrong."""

    stream: TcpStream
    side: int
    time: float
    reason: str
    broken: bool


class _Side:
    """One direction of a stream."""

    __slots__ = ("acknowledged", "end", "held", "held_bytes", "next", "over", "side", "start", "stream", "time")

    def __init__(self, stream: TcpStream, side: int) -> None:
        self.stream = stream
        self.side = side
        self.start: int | None = None
        self.next: int | None = None
        self.end: int | None = None
        self.acknowledged: int | None = None
        self.held: list[tuple[int, float, bytes]] = []
        self.held_bytes = 0
        self.over = False
        self.time = 0.0


class Reassembler:
    """Puts the segments of every TCP connection of one capture in order."""

    def __init__(self) -> None:
        self._sides: dict[bytes, _Side] = {}
        self._held = 0
        self._count = 0

    def feed(self, segment: Segment) -> Iterator[Chunk | Ended]:
        """Yield the bytes and ends that the segment makes available, in order per direction."""
        side = self._sides.get(segment.flow)
        if side is None:
            yield from self._make_room()
            side = self._open(segment)
        flags = segment.flags
        if flags & (SYN | FIN | RST):
            if flags & SYN:
                if _reopens(side, segment):
                    yield from self._forget(segment.flow, segment.time, "the same ports were opened again")
                    side = self._open(segment)
                yield from self._synchronise(side, segment)
            elif flags & RST:
                yield from self._reset(side, segment.time)
                return
        if flags & ACK:
            side.stream.sides[1 - side.side].acknowledged = segment.acknowledged
        if side.over:
            return
        side.time = segment.time
        if side.next == segment.sequence and not side.held and segment.data:
            side.next = segment.sequence + len(segment.data) & 0xFFFFFFFF
            yield Chunk(side.stream, side.side, segment.time, segment.data)
        elif segment.data:
            sequence = segment.sequence + 1 if flags & SYN else segment.sequence
            yield from self._out_of_order(side, sequence & 0xFFFFFFFF, segment)
        if segment.cut:
            reason = f"{counted(segment.cut, 'byte was', 'bytes were')} cut from a packet's end (snap length)"
            yield from self._end(side, segment.time, reason, broken=True)
        elif flags & FIN:
            side.end = segment.sequence + len(segment.data) & 0xFFFFFFFF
        if side.end is not None and side.next == side.end:
            yield from self._end(side, segment.time, CLOSED)

    def finish(self) -> Iterator[Chunk | Ended]:
        """End every direction that is still open at the end of the capture."""
        for side in list(self._sides.values()):
            if not side.over:
                yield from self._start_unsynced(side)
                yield from self._end(side, side.time, *self._why(side))
        self._sides.clear()

    def _open(self, segment: Segment) -> _Side:
        source, destination = endpoints(segment.flow)
        flags = segment.flags
        # Without a SYN the larger port number is assumed to be ephemeral, hence the client's.
        sender_opened = not flags & ACK if flags & SYN else segment.flow[-4:-2] >= segment.flow[-2:]
        ends = (source, destination) if sender_opened else (destination, source)
        stream = TcpStream(self._count, ends)
        self._count += 1
        ours, theirs = stream.sides if sender_opened else stream.sides[::-1]
        self._sides[segment.flow] = ours
        self._sides.setdefault(reverse(segment.flow), theirs)
        return ours

    def _make_room(self) -> Iterator[Chunk | Ended]:
        if len(self._sides) < 2 * MAX_STREAMS:
            return
        done = [flow for flow, side in self._sides.items() if all(each.over for each in side.stream.sides)]
        # A quarter at a time, so that in a flood of connections each one costs little.
        for flow in done or list(self._sides)[: MAX_STREAMS // 2]:
            if flow in self._sides:
                yield from self._forget(flow, self._sides[flow].time, f"more than {MAX_STREAMS} streams at once")

    def _forget(self, flow: bytes, time: float, reason: str) -> Iterator[Chunk | Ended]:
        for key in (flow, reverse(flow)):
            side = self._sides.pop(key, None)
            if side is not None and not side.over:
                yield from self._end(side, time, reason)

    def _synchronise(self, side: _Side, segment: Segment) -> Iterator[Chunk | Ended]:
        side.start = segment.sequence
        if side.next is None:
            side.next = segment.sequence + 1 & 0xFFFFFFFF
            yield from self._release(side)

    def _reset(self, side: _Side, time: float) -> Iterator[Chunk | Ended]:
        for each in side.stream.sides:
            if not each.over:
                yield from self._start_unsynced(each)
                reason, broken = self._why(each)
                yield from self._end(each, time, reason if broken else RESET, broken=broken)

    def _out_of_order(self, side: _Side, sequence: int, segment: Segment) -> Iterator[Chunk | Ended]:
        """Take a segment that is early, late or overlapping, or whose stream has no known beginning yet."""
        data = segment.data
        if side.next is not None:
            ahead = _distance(side.next, sequence)
            if ahead <= 0:
                fresh = data[-ahead:]
                if fresh:
                    side.next = side.next + len(fresh) & 0xFFFFFFFF
                    yield Chunk(side.stream, side.side, segment.time, fresh)
                    yield from self._release(side)
                return
        # A copy, because the packet's view would keep its whole piece of the file in memory.
        side.held.append((sequence, segment.time, bytes(data)))
        side.held_bytes += len(data)
        self._held += len(data)
        if side.next is None and (len(side.held) > MAX_UNSYNCED or side.held_bytes > MAX_HELD):
            yield from self._start_unsynced(side)
        if side.held_bytes > MAX_HELD:
            yield from self._end(side, segment.time, *self._why(side))
        elif self._held > MAX_HELD_TOGETHER:
            most = max(self._sides.values(), key=lambda each: each.held_bytes)
            yield from self._start_unsynced(most)
            if self._held > MAX_HELD_TOGETHER:
                yield from self._end(most, segment.time, *self._why(most))

    def _start_unsynced(self, side: _Side) -> Iterator[Chunk | Ended]:
        if side.next is None and side.held:
            base = side.held[0][0]
            side.next = min((held[0] for held in side.held), key=lambda sequence: _distance(base, sequence))
            yield from self._release(side)

    def _release(self, side: _Side) -> Iterator[Chunk | Ended]:
        """Yield the held segments that the stream has reached."""
        if not side.held or side.next is None:
            return
        reached = side.next
        side.held.sort(key=lambda held: _distance(reached, held[0]))
        used = 0
        for sequence, time, data in side.held:
            behind = -_distance(side.next, sequence)
            if behind < 0:
                break
            used += 1
            side.held_bytes -= len(data)
            self._held -= len(data)
            if behind < len(data):
                side.next = side.next + len(data) - behind & 0xFFFFFFFF
                yield Chunk(side.stream, side.side, time, memoryview(data)[behind:])
        del side.held[:used]

    def _why(self, side: _Side) -> tuple[str, bool]:
        """Return why a direction ends before its FIN, and whether it is broken."""
        missing = 0
        if side.next is not None:
            if side.held:
                missing = min(_distance(side.next, held[0]) for held in side.held)
            elif side.end is not None:
                missing = _distance(side.next, side.end)
            elif side.acknowledged is not None:
                # A FIN that was not captured takes one sequence number.
                missing = _distance(side.next, side.acknowledged) - 1
        if missing > 0:
            return f"{counted(missing, 'byte is', 'bytes are')} missing from the capture", True
        return CAPTURE_ENDS, False

    def _end(self, side: _Side, time: float, reason: str, broken: bool = False) -> Iterator[Chunk | Ended]:
        self._held -= side.held_bytes
        side.held, side.held_bytes, side.over = [], 0, True
        yield Ended(side.stream, side.side, time, reason, broken)


def _reopens(side: _Side, segment: Segment) -> bool:
    """Return whether a SYN opens another connection on the same ports, rather than repeat this one's SYN."""
    if side.start is not None:
        return side.start != segment.sequence
    reached = side.next if side.next is not None else side.held[0][0] if side.held else None
    if reached is None:
        return side.over
    return not 0 <= _distance(segment.sequence + 1, reached) <= MAX_HELD


def _distance(start: int, to: int) -> int:
    """Return how far `to` lies after `start` on the circle of sequence numbers."""
    return (to - start + 0x80000000 & 0xFFFFFFFF) - 0x80000000
