"""Record types, sizes and times of one direction of a TLS connection, not decrypted. Source: RFC 8446, 5.1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from adversary.tap.decode.payload import ProtocolError

HANDSHAKE, APPLICATION_DATA = 22, 23
_TYPES = (20, 21, HANDSHAKE, APPLICATION_DATA, 24)
_MOST = (1 << 14) + 2048


class TlsRecord(NamedTuple):
    """One TLS record; `size` is its length without the five bytes of header."""

    time: float
    type: int
    size: int


class TlsSide:
    """Decoder of the records that one side sends; it holds at most five bytes."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0

    def feed(self, time: float, data: memoryview) -> Iterator[TlsRecord]:
        """Yield each record that `data` completes.

        Raises
        ------
        ProtocolError
            The bytes are not TLS, or no longer.
        """
        position, end = 0, len(data)
        while position < end:
            if self._left:
                take = min(self._left, end - position)
                self._left -= take
                position += take
                if not self._left:
                    yield self._done(time)
                continue
            take = min(5 - len(self._head), end - position)
            self._head += data[position : position + take]
            position += take
            if len(self._head) == 5:
                self._left = self._check()
                if not self._left:
                    yield self._done(time)

    def _check(self) -> int:
        size = int.from_bytes(self._head[3:5])
        if self._head[0] not in _TYPES or self._head[1] != 3 or size > _MOST:
            raise ProtocolError("a TLS record's header is broken")
        return size

    def _done(self, time: float) -> TlsRecord:
        record = TlsRecord(time, self._head[0], int.from_bytes(self._head[3:5]))
        self._head.clear()
        return record
