"""Reassemble TCP segments to byte streams: reordering, retransmission, overlap, gaps, streams without a beginning.

Every direction holds at most `MAX_HELD` bytes that wait for an earlier segment, and all directions together at most
`MAX_HELD_TOGETHER`. A gap beyond that is a loss and ends its direction with a reason.

A RST ends a connection if its sequence number is the next one (RFC 9293, 3.10.7.4). One that is further inside the
receiver's window is a reset only if nothing follows it, and one outside the window is ignored, as the receiver ignores
it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from adversary.tap.decode.packets.ip import ACK, FIN, RST, SYN, Segment, endpoints, reverse
from wireleak.common.words import counted

MAX_HELD = 8 << 20
MAX_HELD_TOGETHER = 64 << 20
# What a held segment costs beside its bytes.
OVERHEAD = 128
# Without a captured SYN, wait for an acknowledgement, so many segments or so many seconds. Then the lowest held segment
# counts as the stream's beginning.
MAX_UNSYNCED = 64
PATIENCE = 1.0
MAX_STREAMS = 1 << 14
# The largest window that TCP allows. A segment that lies further ahead belongs to no stream.
MAX_WINDOW = 1 << 30

__all__ = ["RST", "SYN", "Chunk", "Ended", "Reassembler", "Segment", "TcpStream"]

CLOSED, RESET, CAPTURE_ENDS = "closed", "reset", "capture ends"


class TcpStream:
    """One TCP connection. Side 0 opened it, as far as the capture shows; `endpoints[side]` is "ip:port".

    `time` is that of its first packet.
    """

    __slots__ = ("endpoints", "flow", "index", "sides", "time")

    def __init__(self, index: int, flow: bytes, ends: tuple[str, str], time: float) -> None:
        self.index = index
        self.flow = flow
        self.time = time
        self.endpoints = ends
        self.sides = (_Side(self, 0, time), _Side(self, 1, time))

    def side_of(self, flow: bytes) -> int | None:
        """Return the side that sends the segments of `flow`, None if they belong to another stream."""
        source, destination = endpoints(flow)
        return {self.endpoints: 0, self.endpoints[::-1]: 1}.get((source, destination))

    def late(self, side: int) -> bool:
        """Return whether the capture may lack the beginning of a direction, because it lacks its SYN."""
        return self.sides[side].start is None


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

    __slots__ = (
        *("acknowledged", "base", "end", "held", "held_bytes", "next", "over", "reset", "scale", "side", "since"),
        *("overtaken", "start", "stream", "time", "window"),
    )

    def __init__(self, stream: TcpStream, side: int, time: float) -> None:
        self.stream = stream
        self.side = side
        self.start: int | None = None
        self.next: int | None = None
        self.end: int | None = None
        self.reset: int | None = None
        self.acknowledged: int | None = None
        # The capture has an acknowledgement before what it acknowledges, so acknowledgements tell nothing of the order.
        self.overtaken = False
        self.window = 0
        self.scale: int | None = None
        # Held segments are ordered by their distance from `base`.
        self.base = 0
        self.held: list[tuple[int, float, bytes]] = []
        self.held_bytes = 0
        self.since = time
        self.over = False
        self.time = time

    @property
    def other(self) -> _Side:
        return self.stream.sides[1 - self.side]


class Reassembler:
    """Puts the segments of every TCP connection of one capture in order."""

    def __init__(self) -> None:
        self._sides: dict[bytes, _Side] = {}
        self._done: deque[bytes] = deque(maxlen=4 * MAX_STREAMS)
        self._held = 0
        self._count = 0

    def feed(self, segment: Segment) -> Iterator[Chunk | Ended]:
        """Yield the bytes and ends that the segment makes available, in order per direction."""
        side = self._sides.get(segment.flow)
        if side is None:
            yield from self._make_room()
            side = self._open(segment)
        flags = segment.flags
        if flags & (SYN | RST):
            if flags & SYN:
                if _reopens(side, segment):
                    yield from self._forget(segment.flow, segment.time, "the same ports were opened again")
                    side = self._open(segment)
                yield from self._synchronise(side, segment)
            elif not _believable(side, segment):
                return
            elif side.next is None or _distance(side.next, segment.sequence) > 0:
                # Nothing shows that these bytes follow the others: anybody can send a RST.
                segment = segment._replace(data=segment.data[:0])
        side.window = segment.window
        if flags & ACK:
            other = side.stream.sides[1 - side.side]
            other.acknowledged = segment.acknowledged
            if other.next is None and other.held:
                yield from self._start_acknowledged(other)
        if not side.over:
            yield from self._take(side, segment)
        if flags & RST:
            yield from self._maybe_reset(side, segment)

    def _take(self, side: _Side, segment: Segment) -> Iterator[Chunk | Ended]:
        """Take the segment's bytes and its FIN."""
        flags = segment.flags
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
        if side.next is not None and not side.over:
            if side.next == side.end:
                yield from self._end(side, segment.time, CLOSED)
            elif side.next == side.reset:
                yield from self._reset(side, segment.time)

    def finish(self) -> Iterator[Chunk | Ended]:
        """End every direction that is still open at the end of the capture."""
        for side in [side for opened in list(self._sides.values()) for side in opened.stream.sides]:
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
        stream = TcpStream(self._count, segment.flow, ends, segment.time)
        self._count += 1
        ours, theirs = stream.sides if sender_opened else stream.sides[::-1]
        self._sides[segment.flow] = ours
        self._sides.setdefault(reverse(segment.flow), theirs)
        return ours

    def _make_room(self) -> Iterator[Chunk | Ended]:
        while self._done and len(self._sides) >= 2 * MAX_STREAMS:
            flow = self._done.popleft()
            side = self._sides.get(flow)
            # The same ports may have been opened again since.
            if side is not None and all(each.over or each.reset is not None for each in side.stream.sides):
                yield from self._forget(flow, side.time, RESET)
        if len(self._sides) < 2 * MAX_STREAMS:
            return
        # A quarter at a time, so that in a flood of connections each one costs little.
        for flow in list(self._sides)[: MAX_STREAMS // 2]:
            if flow in self._sides:
                yield from self._forget(flow, self._sides[flow].time, f"more than {MAX_STREAMS} streams at once")

    def _forget(self, flow: bytes, time: float, reason: str) -> Iterator[Chunk | Ended]:
        stream = self._sides[flow].stream
        for key in (flow, reverse(flow)):
            if key in self._sides and self._sides[key].stream is stream:
                del self._sides[key]
        # A connection from a port to itself has one flow and two sides.
        for side in stream.sides:
            if not side.over:
                yield from self._end(side, time, reason)

    def _synchronise(self, side: _Side, segment: Segment) -> Iterator[Chunk | Ended]:
        side.start, side.scale = segment.sequence, segment.scale
        if side.next is None:
            side.next = segment.sequence + 1 & 0xFFFFFFFF
            yield from self._release(side)

    def _maybe_reset(self, side: _Side, segment: Segment) -> Iterator[Chunk | Ended]:
        """End both directions if the RST is the next segment; otherwise remember it."""
        at = segment.sequence + len(segment.data) & 0xFFFFFFFF
        yield from self._start_unsynced(side)
        ahead = 0 if side.next is None else _distance(side.next, at)
        if ahead <= 0 or side.over or (side.end is not None and ahead == 1):
            yield from self._reset(side, segment.time)
            return
        side.reset = side.other.reset = at
        self._done.append(segment.flow)

    def _reset(self, side: _Side, time: float) -> Iterator[Chunk | Ended]:
        for each in side.stream.sides:
            if not each.over:
                yield from self._start_unsynced(each)
                reason, broken = self._why(each)
                yield from self._end(each, time, reason if broken else RESET, broken=broken)

    def _out_of_order(self, side: _Side, sequence: int, segment: Segment) -> Iterator[Chunk | Ended]:
        """Take a segment that is early, late or overlapping, or whose stream has no known beginning yet."""
        data = segment.data
        if side.next is None and side.acknowledged is not None and not side.held and side.other.start is None:
            behind = _distance(sequence, side.acknowledged)
            if behind == len(data) == 1:
                return  # a probe that keeps the connection alive repeats the last byte
            if behind == 0:
                # The receiver has everything before this segment: nothing that is still under way precedes it.
                side.next = sequence
            side.overtaken = behind > 0
        if side.next is not None:
            ahead = _distance(side.next, sequence)
            if ahead <= 0:
                fresh = data[-ahead:]
                if fresh:
                    side.next = side.next + len(fresh) & 0xFFFFFFFF
                    yield Chunk(side.stream, side.side, segment.time, fresh)
                    yield from self._release(side)
                return
            if ahead > MAX_WINDOW:
                return
        self._hold(side, sequence, segment)
        if side.next is None and (
            len(side.held) > MAX_UNSYNCED or side.held_bytes > MAX_HELD or segment.time > side.since + PATIENCE
        ):
            yield from self._start_unsynced(side)
        if side.held_bytes > MAX_HELD:
            yield from self._end(side, segment.time, *self._why(side))
        elif self._held > MAX_HELD_TOGETHER:
            yield from self._drop_held(segment.time)

    def _hold(self, side: _Side, sequence: int, segment: Segment) -> None:
        if not side.held:
            side.base, side.since = sequence, segment.time
        # A copy, because the packet's view would keep its whole piece of the file in memory.
        heapq.heappush(side.held, (_distance(side.base, sequence), segment.time, bytes(segment.data)))
        side.held_bytes += len(segment.data) + OVERHEAD
        self._held += len(segment.data) + OVERHEAD

    def _drop_held(self, time: float) -> Iterator[Chunk | Ended]:
        """Give up the gaps before which most bytes wait, until a quarter of the memory is free."""
        for side in sorted(set(self._sides.values()), key=lambda each: each.held_bytes, reverse=True):
            if self._held <= MAX_HELD_TOGETHER * 3 // 4:
                return
            yield from self._start_unsynced(side)
            if side.held:
                yield from self._end(side, time, *self._why(side))

    def _start_acknowledged(self, side: _Side) -> Iterator[Chunk | Ended]:
        """Begin a direction whose receiver has seen the lowest held segment, and thus all before it."""
        first = side.base + side.held[0][0]
        # If the other direction's SYN was captured, this one's is only late.
        if side.other.start is not None or side.overtaken or side.acknowledged is None:
            return
        if _distance(first, side.acknowledged) > 0:
            yield from self._start_unsynced(side)

    def _start_unsynced(self, side: _Side) -> Iterator[Chunk | Ended]:
        if side.next is None and side.held:
            side.next = side.base + side.held[0][0] & 0xFFFFFFFF
            yield from self._release(side)

    def _release(self, side: _Side) -> Iterator[Chunk | Ended]:
        """Yield the held segments that the stream has reached."""
        while side.held and side.next is not None:
            behind = _distance(side.base, side.next) - side.held[0][0]
            if behind < 0:
                return
            _, time, data = heapq.heappop(side.held)
            side.held_bytes -= len(data) + OVERHEAD
            self._held -= len(data) + OVERHEAD
            if behind < len(data):
                side.next = side.next + len(data) - behind & 0xFFFFFFFF
                yield Chunk(side.stream, side.side, time, memoryview(data)[behind:])

    def _why(self, side: _Side) -> tuple[str, bool]:
        """Return why a direction ends before its FIN, and whether it is broken."""
        missing = 0
        if side.next is not None:
            if side.held:
                missing = side.held[0][0] - _distance(side.base, side.next)
            elif side.end is not None:
                missing = _distance(side.next, side.end)
            elif side.acknowledged is not None:
                # A FIN that was not captured takes one sequence number.
                missing = _distance(side.next, side.acknowledged) - 1
        if missing > 0:
            return f"{counted(missing, 'byte is', 'bytes are')} missing from the capture", True
        return CAPTURE_ENDS if side.reset is None else RESET, False

    def _end(self, side: _Side, time: float, reason: str, broken: bool = False) -> Iterator[Chunk | Ended]:
        if side.over:
            return
        self._held -= side.held_bytes
        side.held, side.held_bytes, side.over = [], 0, True
        if side.other.over:
            self._done.append(side.stream.flow)
        yield Ended(side.stream, side.side, time, reason, broken)


def _believable(side: _Side, segment: Segment) -> bool:
    """Return whether the receiver of a RST can take it for one of this connection: it lies in the window."""
    if side.next is not None:
        return 0 <= _distance(side.next, segment.sequence) <= _window(side)
    if side.held:
        return 0 <= _distance(side.base + side.held[0][0], segment.sequence) <= MAX_HELD
    if side.acknowledged is not None:
        return 0 <= _distance(side.acknowledged, segment.sequence) <= _window(side)
    reached = side.other.next
    # The answer to a SYN has no sequence number of its own, only an acknowledgement. Anybody can send another one.
    return bool(segment.flags & ACK) and segment.acknowledged == reached


def _window(side: _Side) -> int:
    """Return how many bytes the receiver of this direction has room for, as far as the capture shows."""
    receiver = side.other
    if not receiver.window:
        return 0xFFFF
    if receiver.start is None or side.start is None:
        return MAX_WINDOW
    scaled = receiver.scale is not None and side.scale is not None
    return receiver.window << (receiver.scale or 0) if scaled else receiver.window


def _reopens(side: _Side, segment: Segment) -> bool:
    """Return whether a SYN opens another connection on the same ports, rather than repeat this one's SYN."""
    if side.start is not None:
        return side.start != segment.sequence
    reached = side.next if side.next is not None else side.base + side.held[0][0] if side.held else None
    if reached is None:
        return side.over
    return not 0 <= _distance(segment.sequence + 1, reached) <= MAX_HELD


def _distance(start: int, to: int) -> int:
    """Return how far `to` lies after `start` on the circle of sequence numbers."""
    return (to - start + 0x80000000 & 0xFFFFFFFF) - 0x80000000
