"""Split the bytes of one direction of a call into gRPC messages: native gRPC, gRPC-web, and gRPC-web's base64 text.

Sources: the gRPC specifications "PROTOCOL-HTTP2" and "PROTOCOL-WEB". A message is one flag byte (bit 0: compressed),
four bytes of length, then the bytes. In gRPC-web the trailers are one more such block in the body, with bit 7 set.
"""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Iterator

from adversary.tap.decode.fields import UnusualError, begins
from adversary.tap.decode.payload import MAX_UNFINISHED, Budget

MAX_MESSAGE = 128 << 20
# A compressed message may grow to so many bytes.
MAX_INFLATED = 64 << 20
# Work for one message: an empty one has five bytes.
MESSAGE_WORK = 8

_COMPRESSED, _TRAILERS = 0x01, 0x80
# Some programs send "deflate" without the header of zlib.
_WINDOW_BITS = {"gzip": (31,), "deflate": (15, -15)}
# How a member of gzip begins, and most members of one message.
_GZIP, _MEMBERS = b"\x1f\x8b", 16
_PIECE = 1 << 20
_NATIVE, _WEB, _TEXT = "application/grpc", "application/grpc-web", "application/grpc-web-text"


class BrokenFramingError(ValueError):
    """A direction's bytes are not gRPC messages."""


def is_grpc_web(content_type: str) -> bool:
    """Return whether a body of this content type holds gRPC-web messages."""
    return content_type.strip().lower().startswith(_WEB)


def plausible(start: bytes | bytearray, frame: int) -> bool:
    """Return whether a message begins with a DATA frame of `frame` bytes that starts so.

    The message ends where the frame ends, or its first fields are those of a protobuf message of its length.
    """
    if len(start) < 5 or start[0] > 1:
        return False
    size = int.from_bytes(start[1:5])
    if size + 5 == frame:
        return True
    if size > MAX_MESSAGE or start[0]:
        return False
    try:
        return size > 0 and begins(memoryview(start)[5:], size)
    except UnusualError:
        return False


class Direction:
    """The messages of one direction of one call."""

    __slots__ = (
        *("_body", "_budget", "_counted", "_flag", "_left", "_prefix", "_size", "_text", "_web"),
        *("encoding", "headed", "over", "plain", "sequence", "start", "total"),
    )

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget or Budget()
        self.encoding = "identity"
        self.over = False
        self.headed = False  # its headers were seen
        self.start: bytearray | None = None  # without headers: the beginning of a frame that may begin a message
        self.plain = False  # not gRPC: bytes are counted only
        self.sequence = 0
        self.total = 0
        self._prefix = bytearray()
        self._flag = self._size = 0
        self._left = -1
        self._body: bytearray | None = None
        self._counted = 0  # bytes of the current message that the budget counts
        self._web = False
        self._text: bytes | None = None  # characters that wait for the rest of their group of four

    def follow(self, content_type: str) -> None:
        """Take the framing from the header content-type."""
        kind = content_type.strip().lower()
        self.plain = not kind.startswith(_NATIVE)
        self._web = is_grpc_web(kind)
        self._text = b"" if kind.startswith(_TEXT) else None

    def feed(self, data: memoryview, wanted: bool) -> Iterator[tuple[int, bytes | bytearray | None]]:
        """Yield size and bytes of each message that `data` completes.

        Raises
        ------
        BrokenFramingError
            The bytes are not such messages, or the budget has no room for them; the direction is stopped.
        """
        self.total += len(data)
        if self.plain:
            return
        try:
            yield from self._split(data, wanted)
            self._count()
            if not self._budget.has_room():
                raise BrokenFramingError(f"more than {MAX_UNFINISHED} bytes of unfinished messages at once")
        except BrokenFramingError:
            self.stop()
            raise
        finally:
            self._count()

    def _split(self, data: memoryview, wanted: bool) -> Iterator[tuple[int, bytes | bytearray | None]]:
        if self._text is not None:
            data = self._from_base64(self._text + data)
        position, end = 0, len(data)
        while position < end or self._left == 0:
            if self._left < 0:
                take = min(5 - len(self._prefix), end - position)
                self._prefix += data[position : position + take]
                position += take
                if len(self._prefix) == 5:
                    self._start(wanted)
                continue
            take = min(self._left, end - position)
            if self._body is not None:
                self._body += data[position : position + take]
            position += take
            self._left -= take
            if not self._left:
                self._left = -1
                body = self._finish()
                if not self._flag & _TRAILERS:
                    yield self._size, body

    def takes(self, data: memoryview) -> bool:
        """Take a piece that ends before the current message does, if it is such a piece: most pieces are."""
        size = len(data)
        if self._left <= size or self._text is not None or self.over:
            return False
        if self._body is not None:
            if not self._budget.has_room(size):
                return False
            self._body += data
            self._count()
        self._left -= size
        self.total += size
        return True

    def unfinished(self) -> int:
        """Return how many bytes the current message, or its prefix, still lacks."""
        return max(self._left, 0) or (5 - len(self._prefix) if self._prefix else 0)

    def stop(self) -> None:
        """Ignore further bytes, and drop those held."""
        self.over = True
        self._body = None
        self._count()

    def _count(self) -> None:
        """Have the budget count the bytes that are held of the current message."""
        held = 0 if self._body is None else len(self._body)
        self._budget.held += held - self._counted
        self._counted = held

    def _start(self, wanted: bool) -> None:
        self._flag, self._size = self._prefix[0], int.from_bytes(self._prefix[1:])
        self._prefix.clear()
        if self._flag & ~(_COMPRESSED | (_TRAILERS if self._web else 0)):
            raise BrokenFramingError(f"a message's flag is {self._flag}, neither 0 nor 1")
        if self._size > MAX_MESSAGE:
            raise BrokenFramingError(f"a message claims {self._size} bytes, over {MAX_MESSAGE}")
        self._left = self._size
        self._body = bytearray() if wanted and not self._flag & _TRAILERS else None

    def _finish(self) -> bytes | bytearray | None:
        self._budget.spend(MESSAGE_WORK)
        body, self._body = self._body, None
        if body is None or not self._flag & _COMPRESSED:
            return body
        return _decompress(body, self.encoding, self._budget)

    def _from_base64(self, text: bytes) -> memoryview:
        """Decode whole groups of four characters. A sender may pad each piece, so "=" may stand in the middle."""
        whole, start, decoded = len(text) & ~3, 0, bytearray()
        while start < whole:
            pad = text.find(b"=", start, whole)
            end = whole if pad < 0 else (pad & ~3) + 4
            try:
                decoded += binascii.a2b_base64(text[start:end], strict_mode=True)
            except binascii.Error as error:
                raise BrokenFramingError("the body is no base64 text") from error
            start = end
        self._text = text[whole:]
        return memoryview(decoded)


def _decompress(body: bytearray, encoding: str, budget: Budget) -> bytes:
    """Decompress a message, to at most `MAX_INFLATED` bytes. One of gzip may have several members."""
    if encoding not in _WINDOW_BITS:
        raise BrokenFramingError(f"a message is compressed, by {encoding!r}, which is unknown")
    data, rest = b"", bytes(body)
    for _ in range(_MEMBERS):
        part, rest = _inflate(rest, _WINDOW_BITS[encoding], MAX_INFLATED - len(data), budget)
        data = data + part if data else part
        if encoding != "gzip" or not rest.startswith(_GZIP):
            return data
    raise BrokenFramingError(f"a compressed message has over {_MEMBERS} members")


def _inflate(body: bytes, bits: tuple[int, ...], most: int, budget: Budget) -> tuple[bytes, bytes]:
    """Return the content of one compressed part, and the bytes that follow it; `bits`: formats that it may have."""
    stream, data, rest = zlib.decompressobj(bits[0]), bytearray(), body
    try:
        while not stream.eof:
            # Piece by piece, so that a part whose end is broken costs its sender the work as well.
            piece = stream.decompress(rest, _PIECE)
            budget.expand(len(piece))
            data += piece
            rest = stream.unconsumed_tail
            if len(data) > most or not (piece or rest):
                break
    except zlib.error as error:
        if len(bits) > 1 and not data:
            return _inflate(body, bits[1:], most, budget)
        raise BrokenFramingError(f"a compressed message is broken: {error}") from error
    if not stream.eof or len(data) > most:
        raise BrokenFramingError(f"a compressed message is cut off, or over {MAX_INFLATED} bytes")
    return bytes(data), stream.unused_data
