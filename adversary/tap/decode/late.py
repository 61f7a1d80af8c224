"""Find where decoding can begin in a connection whose start was not captured.

HTTP/2 is found by its frames: a header of nine bytes tells where the next one is, so a few that follow one another are
no accident. TLS is found by its records in the same way, HTTP/1.1 by the first line of a request or response.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from adversary.tap.decode.events import Transport
from adversary.tap.decode.framing import plausible
from adversary.tap.decode.http2 import PREFACE
from adversary.tap.decode.payload import Budget

# Most bytes of one direction in which a beginning is sought at once, and of all streams that are not recognised yet.
WINDOW = 1 << 18
MAX_SEEKING = 16 << 20
# So many headers in a row are no accident.
_ENOUGH = 3
_MOST_FRAME = 1 << 20
_MOST_STREAM = 1 << 24
_CANDIDATE_WORK = 3
# Most messages whose shapes tell which side is the client.
_MESSAGES = 8
_HTTP1 = re.compile(
    rb"(?P<ask>(?:GET|POST|PUT|HEAD|DELETE|OPTIONS|PATCH) [!-~]{1,2048} HTTP/1\.[01]\r\n)|HTTP/1\.[01] [1-5]\d\d[ \r]"
)
_LENGTHS = {2: 5, 3: 4, 6: 8, 8: 4}
# Flags that each type of frame may have.
_FLAGS = {0: 0x09, 1: 0x2D, 2: 0, 3: 0, 4: 1, 6: 1, 7: 0, 8: 0, 9: 4}
# First bytes of header blocks that begin with an entry of the static table: of a request, of a response.
_REQUEST, _RESPONSE = range(0x82, 0x88), range(0x88, 0x8F)

Infer = Callable[[bool, bytes | bytearray], str]


class Seeker:
    """Finds where one direction can be read. `transport` is None until it is found.

    Parameters
    ----------
    budget : Budget
        The work that the search may cause.
    only : Transport, optional
        The transport, if it is known from the other direction.
    """

    def __init__(self, budget: Budget, only: Transport | None = None) -> None:
        self._budget = budget
        self._only = only
        self._held = bytearray()
        self._scan = 1 << 8
        self.transport: Transport | None = None
        self.asks = False

    def feed(self, data: memoryview | bytes) -> memoryview:
        """Return the bytes from the place on where this direction can be read; none before it is found."""
        if self.transport is not None:
            return memoryview(data)
        start = len(self._held)
        self._held += data
        at = self._find(start)
        if at is None:
            if len(self._held) > WINDOW:
                del self._held[: WINDOW // 2]
                self._scan = len(self._held) + WINDOW // 4
            return memoryview(b"")
        found = memoryview(bytes(self._held[at:]))
        self._held.clear()
        return found

    def finish(self) -> memoryview:
        """Look at every place once more, and return the bytes from the place that was found, if any."""
        self._scan = 0
        return self.feed(b"") if self.transport is None else memoryview(b"")

    def _find(self, segment: int) -> int | None:
        """Look at the start of the last segment; and at every place, each time that twice as much is held."""
        held = bytes(self._held)
        if self._only in (None, Transport.HTTP1) and (match := _HTTP1.search(held, max(segment - 2100, 0))):
            self.transport, self.asks = Transport.HTTP1, match["ask"] is not None
            return match.start()
        if self._only is Transport.HTTP1:
            return None
        if held.startswith(PREFACE) and self._only is not Transport.TLS:
            self.transport, self.asks = Transport.HTTP2, True
            return 0
        # What is found at the start of a segment may have begun earlier.
        if len(held) < self._scan and self._transport_at(held, segment) is None:
            return None
        self._scan = len(held) * 3 // 2
        for at in _candidates(held):
            self._budget.spend(_CANDIDATE_WORK)
            if (transport := self._transport_at(held, at)) is not None:
                self.transport = transport
                return at
        return None

    def _transport_at(self, held: bytes, at: int) -> Transport | None:
        for transport, read in ((Transport.HTTP2, _frame), (Transport.TLS, _record)):
            if self._only in (None, transport) and _chain(held, at, read):
                return transport
        return None


class Start(NamedTuple):
    """The transport of a connection, and which TCP side is the client."""

    transport: Transport
    client: int


class LateStart:
    """Recognises a connection whose start is missing, from both of its directions.

    Parameters
    ----------
    infer : callable
        Returns the method that a message belongs to by its shape, "" if it is unknown; takes whether the client sends.
    budget : Budget
    """

    def __init__(self, infer: Infer, budget: Budget) -> None:
        self._infer = infer
        self._budget = budget
        self._seekers = (Seeker(budget), Seeker(budget))
        self._found = (bytearray(), bytearray())
        self._size = [0, 0]

    def feed(self, side: int, data: bytes) -> Start | None:
        """Take the next bytes of a direction; return the start once it is known."""
        self._size[side] += len(data)
        self._budget.seeking += len(data)
        self._found[side].extend(self._seekers[side].feed(data))
        seeker = self._seekers[side]
        if seeker.transport is Transport.HTTP1 and seeker.asks:
            return Start(Transport.HTTP1, side)
        if seeker.transport is Transport.TLS:
            return Start(Transport.TLS, 0)
        if seeker.transport is Transport.HTTP2 and (client := self._client()) is not None:
            return Start(Transport.HTTP2, client)
        too_much = self._size[side] > WINDOW or self._budget.seeking > MAX_SEEKING
        return self.settle() if too_much else None

    def try_to(self, step: Callable[[], Start | None]) -> Start | None:
        """Return what `feed` or `settle` returns; bytes on which the search fails are those of another protocol."""
        try:
            return step()
        except Exception:
            return Start(Transport.OTHER, 0)

    def settle(self) -> Start:
        """Return the most probable start; side 0, which has the larger port, is the client if nothing tells."""
        for seeker, found in zip(self._seekers, self._found, strict=True):
            found += seeker.finish()
        transports = [seeker.transport for seeker in self._seekers]
        if Transport.HTTP2 in transports:
            client = self._client()
            return Start(Transport.HTTP2, 0 if client is None else client)
        if Transport.HTTP1 in transports:
            return Start(Transport.HTTP1, 1 - transports.index(Transport.HTTP1))
        return Start(Transport.OTHER, 0)

    def close(self) -> None:
        """Release what is held."""
        self._budget.seeking -= sum(self._size)

    def _client(self) -> int | None:
        """Return the client's side by header blocks, or else by the shapes of messages; None if nothing tells."""
        sizes = [0, 0]
        for side in (0, 1):
            data = bytes(self._found[side])
            asks = _asks(data)
            if asks is not None:
                return side if asks else 1 - side
            for message in islice(_messages(data), _MESSAGES):
                self._budget.spend(len(message) >> 4)
                up, down = self._infer(True, message), self._infer(False, message)
                if bool(up) != bool(down):
                    return side if up else 1 - side
                sizes[side] = max(sizes[side], len(message) if up else 0)
        # A request of split inference and its answer look alike, but a few values answer many.
        return None if not all(sizes) or sizes[0] == sizes[1] else int(sizes[1] > sizes[0])


def _frame(data: bytes, at: int) -> int:
    """Return the length of the frame of HTTP/2 whose header is at `at`, with its header; 0 if there is none."""
    size, kind, flags = int.from_bytes(data[at : at + 3]), data[at + 3], data[at + 4]
    stream = int.from_bytes(data[at + 5 : at + 9])
    if kind not in _FLAGS or flags & ~_FLAGS[kind] or size > _MOST_FRAME or stream >= _MOST_STREAM:
        return 0
    if kind in (4, 6, 7):
        fits = stream == 0 and (size % 6 == 0 and size < 600 if kind == 4 else kind == 7 or size == 8)
    elif kind == 8:
        fits = size == 4
    else:
        # A client opens odd streams. An empty DATA frame is sent only to end a stream.
        fits = stream % 2 == 1 and _LENGTHS.get(kind, size) == size and (size > 0 or (kind == 0 and flags & 1 == 1))
    return size + 9 if fits else 0


def _record(data: bytes, at: int) -> int:
    """Return the length of the TLS record at `at`, with its header; 0 if there is none."""
    size = int.from_bytes(data[at + 3 : at + 5])
    fits = 20 <= data[at] <= 23 and data[at + 1] == 3 and data[at + 2] <= 4 and 0 < size <= (1 << 14) + 256
    return size + 5 if fits else 0


def _chain(data: bytes, at: int, read: Callable[[bytes, int], int]) -> bool:
    """Return whether several frames follow one another from `at`, or whole ones up to the end."""
    count, begin = 0, at
    while at + 9 <= len(data):
        size = read(data, at)
        if not size:
            return False
        count, at = count + 1, at + size
        if count >= _ENOUGH and at - begin > 9 * count:
            return True
    return count > 0 and at == len(data) and at - begin > 9 * count


def _candidates(data: bytes) -> Iterator[int]:
    """Yield the places where a header of HTTP/2 or TLS may be."""
    if len(data) < 10:
        return
    values = np.frombuffer(data, np.uint8)
    last = len(values) - 8
    column = [values[offset : last + offset] for offset in range(9)]
    http2 = (column[0] <= 0x10) & (column[3] <= 9) & (column[5] == 0)
    # Neither a header of zeros, nor an empty frame that is no end.
    http2 &= (column[8] != 0) | (column[3] != 0)
    http2 &= (column[0] | column[1] | column[2] | column[4]) != 0
    tls = (column[0] >= 20) & (column[0] <= 23) & (column[1] == 3) & (column[2] <= 4)
    yield from map(int, np.flatnonzero(http2 | tls))


def _asks(data: bytes) -> bool | None:
    """Return whether a client sends these frames, by their first header block; None if nothing tells."""
    at = 0
    while at + 10 <= len(data) and (size := _frame(data, at)):
        if data[at + 3] == 1:
            block = at + 9 + (1 if data[at + 4] & 0x08 else 0) + (5 if data[at + 4] & 0x20 else 0)
            first = data[block] if block < len(data) else 0
            if first in _REQUEST or first in _RESPONSE:
                return first in _REQUEST
        at += size
    return None


def _messages(data: bytes) -> Iterator[bytes]:
    """Yield messages of gRPC in these frames: of each stream the first that begins with a frame, if it is whole."""
    at = 0
    begun: dict[int, bytearray] = {}
    while at + 9 <= len(data) and (size := _frame(data, at)):
        if data[at + 3] == 0 and not data[at + 4] & 0x08:
            body, stream = data[at + 9 : at + size], int.from_bytes(data[at + 5 : at + 9])
            if stream in begun or plausible(body, size - 9):
                message = begun.setdefault(stream, bytearray())
                message += body
                if len(message) >= 5 and len(message) >= (end := 5 + int.from_bytes(message[1:5])):
                    yield bytes(message[5:end])
                    del begun[stream]
        at += size
