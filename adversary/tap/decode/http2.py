"""Decode one direction of an HTTP/2 connection: bytes to header lists, pieces of DATA and resets.

DATA passes through in pieces, without a copy. hyperframe parses every other frame, and hpack the header blocks.
Source: RFC 9113, RFC 7541.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import hpack
from hpack.exceptions import HPACKError, InvalidTableIndex
from hpack.table import HeaderTable
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
)

from adversary.tap.decode.payload import Budget, ProtocolError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Frames other than plain DATA, and header blocks, are buffered whole.
MAX_BUFFERED = 1 << 20
MAX_TABLE = 1 << 20
# Work for one header: a block may name a known header in one byte.
HEADER_WORK = 3
# Work for a frame that is parsed.
FRAME_WORK = 14
# The headers that decoders read, and the most characters of a value: a hostile path has a megabyte.
_READ = (b":path", b":method", b":status", b"content-type", b"grpc-encoding")
_LONGEST = 1024

_HEADER = 9
_END_STREAM, _PADDED = 0x1, 0x8
# Frames that a decoder of calls reads; all others are passed over.
_KINDS = tuple(kind.type for kind in (DataFrame, HeadersFrame, RstStreamFrame, PushPromiseFrame, ContinuationFrame))

Headers = list[tuple[str, str]]


class HeaderBlock(NamedTuple):
    """The headers of a whole list (request, response or trailers) that decoders read."""

    stream: int
    headers: Headers
    end: bool


class DataPiece(NamedTuple):
    """A piece of a DATA frame's payload; `end`: this direction of the stream ends with it.

    `first`: the frame begins with it; `left`: bytes of the frame that follow it.
    """

    stream: int
    data: memoryview
    end: bool
    first: bool = True
    left: int = 0


class Reset(NamedTuple):
    """A reset of a stream (RST_STREAM)."""

    stream: int
    code: int


Event = HeaderBlock | DataPiece | Reset


class Http2Side:
    """Decoder of the bytes that one side sends.

    Parameters
    ----------
    client : bool
        Whether this side opened the connection and therefore sends the preface.
    budget : Budget, optional
        The work that the connection may cause.
    late : bool
        Whether frames before these may be missing. Headers that were named then are left out of header blocks.
    """

    def __init__(self, client: bool, budget: Budget | None = None, late: bool = False) -> None:
        self._late = late
        self._budget = budget or Budget()
        self._preface = PREFACE if client else b""
        self._hpack = hpack.Decoder(max_header_list_size=MAX_BUFFERED)
        # The peer's SETTINGS decide the real limit. A larger limit costs the decoder at most this much memory.
        self._hpack.max_allowed_table_size = MAX_TABLE
        if late:
            self._hpack.header_table = _PartOfTable()
        self._held = bytearray()
        self._stream = 0
        self._left = 0
        self._end = self._first = False
        self._passed = 0  # bytes of a frame that is passed over
        self._block: tuple[int, bool, bool, bytearray] | None = None

    def feed(self, data: memoryview) -> Iterator[Event]:
        """Yield the events that `data` completes.

        Raises
        ------
        ProtocolError
            The bytes are not HTTP/2, or no longer; this direction cannot be decoded further.
        """
        position, end = 0, len(data)
        while position < end:
            if self._left:
                take = self._left if self._left < end - position else end - position
                self._left -= take
                piece = data[position : position + take]
                yield DataPiece(self._stream, piece, self._end and not self._left, self._first, self._left)
                self._first = False
                position += take
            elif self._passed:
                take = min(self._passed, end - position)
                self._passed -= take
                position += take
            elif self._preface or self._held:
                position += self._buffer(data[position:])
                yield from self._whole_frames()
            elif end - position >= _HEADER and data[position + 3] == 0 and not data[position + 4] & _PADDED:
                header = data[position : position + _HEADER]
                self._start_data(header)
                position += _HEADER
                if not self._left:
                    yield DataPiece(self._stream, header[:0], self._end)
            else:
                position += self._buffer(data[position:])
                yield from self._whole_frames()

    def _start_data(self, header: memoryview) -> None:
        """Start a DATA frame without padding."""
        if self._block is not None:
            raise ProtocolError("DATA inside a header block")
        self._left = header[0] << 16 | header[1] << 8 | header[2]
        self._stream = int.from_bytes(header[5:9]) & 0x7FFFFFFF
        self._end = bool(header[4] & _END_STREAM)
        self._first = True

    def _buffer(self, data: memoryview) -> int:
        """Hold as much of `data` as the preface or the next frame still needs; return that number of bytes."""
        needed = len(self._preface) - len(self._held)
        if not self._preface:
            needed = _HEADER - len(self._held)
            if needed <= 0 and not self._is_plain_data() and self._held[3] in _KINDS:
                needed = self._size() - len(self._held)
        self._held += data[: max(needed, 0)]
        return min(max(needed, 0), len(data))

    def _size(self) -> int:
        size = _HEADER + int.from_bytes(self._held[:3])
        if size > MAX_BUFFERED and self._held[3] != 0:
            raise ProtocolError(f"a frame of type {self._held[3]} claims {size - _HEADER} bytes")
        return size

    def _is_plain_data(self) -> bool:
        return self._held[3] == 0 and not self._held[4] & _PADDED

    def _whole_frames(self) -> Iterator[Event]:
        """Yield the events of the held bytes once they are a whole preface or frame."""
        if self._preface:
            if not self._preface.startswith(self._held):
                if self._late:
                    start, self._preface = bytes(self._held), b""
                    self._held.clear()
                    yield from self.feed(memoryview(start))
                    return
                raise ProtocolError("the connection preface is wrong")
            if len(self._held) == len(self._preface):
                self._preface = b""
                self._held.clear()
            return
        if len(self._held) < _HEADER:
            return
        if self._is_plain_data():
            header = memoryview(bytes(self._held))
            self._held.clear()
            self._start_data(header)
            if not self._left:
                yield DataPiece(self._stream, header[:0], self._end)
        elif self._held[3] not in _KINDS:
            if self._block is not None:
                raise ProtocolError("another frame inside a header block")
            self._passed = self._size() - _HEADER
            self._held.clear()
        elif len(self._held) == self._size():
            whole = memoryview(bytes(self._held))
            self._held.clear()
            yield from self._frame(whole)

    def _frame(self, whole: memoryview) -> Iterator[Event]:
        self._budget.spend(FRAME_WORK)
        try:
            frame, _ = Frame.parse_frame_header(whole[:_HEADER])
            frame.parse_body(whole[_HEADER:])
        except (HyperframeError, ValueError) as error:
            raise ProtocolError(f"a frame is broken: {error or type(error).__name__}") from error
        yield from self._handle(frame)

    def _handle(self, frame: Frame) -> Iterator[Event]:
        if self._block is not None and not isinstance(frame, ContinuationFrame):
            raise ProtocolError("another frame inside a header block")
        if isinstance(frame, DataFrame):
            yield DataPiece(frame.stream_id, memoryview(frame.data), "END_STREAM" in frame.flags)
        elif isinstance(frame, RstStreamFrame):
            yield Reset(frame.stream_id, frame.error_code)
        elif isinstance(frame, HeadersFrame | PushPromiseFrame):
            promised = isinstance(frame, PushPromiseFrame)
            self._block = (frame.stream_id, "END_STREAM" in frame.flags and not promised, promised, bytearray())
            yield from self._continue(frame)
        elif isinstance(frame, ContinuationFrame):
            if self._block is None or self._block[0] != frame.stream_id:
                raise ProtocolError("a CONTINUATION without its HEADERS")
            yield from self._continue(frame)

    def _continue(self, frame: HeadersFrame | PushPromiseFrame | ContinuationFrame) -> Iterator[Event]:
        assert self._block is not None
        stream, end, promised, block = self._block
        block += frame.data
        if len(block) > MAX_BUFFERED:
            raise ProtocolError("a header block is too large")
        if "END_HEADERS" not in frame.flags:
            return
        self._block = None
        try:
            pairs = list(self._hpack.decode(bytes(block), raw=True))
        except (HPACKError, ValueError, IndexError) as error:
            if self._late:
                yield HeaderBlock(stream, [], end)
                return
            raise ProtocolError(
                f"a header block cannot be decoded ({error or type(error).__name__}); "
                "the recording must start with the connection"
            ) from error
        self._budget.spend(HEADER_WORK * len(pairs))
        if not promised:
            headers = [_text(name, value[:_LONGEST]) for name, value in pairs if name in _READ]
            yield HeaderBlock(stream, headers, end)


class _PartOfTable(HeaderTable):
    """A table of headers that the capture shows only in part.

    Entries that were sent before the capture began have no name and no value. Newer ones have lower numbers, so they
    are right.
    """

    def get_by_index(self, index: int) -> tuple[bytes, bytes]:
        try:
            return super().get_by_index(index)
        except InvalidTableIndex:
            if index:
                return b"", b""
            raise


def looks_like_server(start: bytes) -> bool | None:
    """Return whether a direction's first bytes are a server's SETTINGS frame; None if they are too few."""
    if len(start) < _HEADER:
        return None
    size = int.from_bytes(start[:3])
    return start[3] == SettingsFrame.type and start[4] <= 1 and not any(start[5:9]) and not size % 6 and size < 1024


def _text(name: bytes, value: bytes) -> tuple[str, str]:
    return name.decode("latin-1"), value.decode("latin-1")


__all__ = ["PREFACE", "DataPiece", "HeaderBlock", "Http2Side", "ProtocolError", "Reset", "looks_like_server"]
