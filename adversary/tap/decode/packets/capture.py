"""Decode capture files to TCP segments as a stream; several files are merged by time."""

from __future__ import annotations

import bz2
import gzip
import heapq
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import zstandard

from adversary.tap.decode.packets import ip, pcap
from adversary.tap.decode.packets.pcap import CaptureError, Packet
from adversary.tap.decode.packets.segments import SegmentReader
from wireleak.common.words import counted

Progress = Callable[[int], None]

STDIN = Path("-")
_PIECE = 1 << 18
_START = 8
# A compressed capture may grow by so much, and by so many times its size. Honest ones grow 20-fold at most.
_GROWS, _GROWS_FOLD = 256 << 20, 100
_LARGEST_WINDOW = 1 << 27
_GZIP, _BZIP2, _ZSTD = b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd"
# Other ways to pack a file, and the command that unpacks it.
_PACKED = {
    b"\xfd7zXZ\0": "by xz; unpack it with xz -d",
    b"\x04\x22\x4d\x18": "by lz4; unpack it with lz4 -d",
    b"\x1f\x9d": "by compress; unpack it with gzip -d",
    b"PK\x03\x04": "as a zip archive; unpack it with unzip",
    b"7z\xbc\xaf\x27\x1c": "as a 7z archive; unpack it with 7z x",
}
_FAULTS = (CaptureError, OSError, EOFError, zlib.error, zstandard.ZstdError)


class Capture:
    """One capture: a file, a pipe, or "-" for standard input. It is read once, from its start to its end.

    After its packets were read, `note` is the fault of the file, or "", and `skipped` counts the packets without a TCP
    segment. A run may compress its captures, so `link.pcap` also names `link.pcap.gz`.

    Raises
    ------
    CaptureError
        The file is missing, empty or not a capture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = ""
        self.packets_read = 0
        self.segments = SegmentReader()
        try:
            self._raw = io.FileIO(0, closefd=False) if path == STDIN else io.FileIO(_existing(path))
            self._file = io.BufferedReader(self._raw, _PIECE)
            self._pieces = _unpacked(self._file)
            self._start = self._begin()
            self._decoder = pcap.decoder(self._start)
        except CaptureError as error:
            raise CaptureError(f"{path}: {error}") from None
        except _FAULTS as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CaptureError(f"{path}: cannot be read: {reason}") from error

    def packets(self, progress: Progress) -> Iterator[Packet]:
        """Yield the file's packets up to its end or to its first broken part."""
        place = grown = 0
        piece = self._start
        try:
            while piece:
                grown += len(piece)
                for packet in self._decoder.feed(piece):
                    self.packets_read += 1
                    yield packet
                # Bytes of the file, also where it is compressed.
                reached = self._raw.tell() if self._raw.seekable() else grown
                progress(reached - place)
                place = reached
                if grown > _GROWS + _GROWS_FOLD * reached:
                    raise CaptureError(f"grows more than {_GROWS_FOLD}-fold; unpack it to read the rest")
                piece = self._pieces.read1(_PIECE)
        except _FAULTS as error:
            self.note = f"{error} (after {counted(self.packets_read, 'packet')})"
            return
        finally:
            self._file.close()
        if self._decoder.pending():
            self.note = f"is truncated in the middle of a packet (after {counted(self.packets_read, 'packet')})"
        elif not self.packets_read:
            self.note = "holds no packets"

    def _begin(self) -> bytes:
        """Return the first piece, at least as much as tells the format."""
        start = b""
        while len(start) < _START and (piece := self._pieces.read1(_PIECE)):
            start += piece
        return start


def segments(captures: Sequence[Capture], progress: Progress) -> Iterator[tuple[int, ip.Segment]]:
    """Yield the TCP segments of all captures in order of time; each capture keeps its own order.

    Yields
    ------
    tuple of int and Segment
        The capture's number, and the segment; its data is valid only until the next segment is taken.
    """
    sources = [_tagged(number, capture.packets(progress)) for number, capture in enumerate(captures)]
    merged = sources[0] if len(sources) == 1 else heapq.merge(*sources, key=lambda item: item[1].time)
    readers = [capture.segments.read for capture in captures]
    for number, packet in merged:
        segment = readers[number](packet)
        if segment is not None:
            yield number, segment
    for capture in captures:
        capture.segments.finish()


def _existing(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    return packed if not path.exists() and packed.exists() else path


def _unpacked(file: io.BufferedReader[io.FileIO]) -> Any:
    """Return a reader of the bytes of a capture, which may be compressed."""
    start = file.peek(_START)[:_START]
    if start.startswith(_GZIP):
        return gzip.GzipFile(fileobj=file)
    if start.startswith(_BZIP2):
        return bz2.BZ2File(file)
    if start.startswith(_ZSTD):
        unpacker = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        return io.BufferedReader(unpacker.stream_reader(file, read_across_frames=True), _PIECE)
    for magic, how in _PACKED.items():
        if start.startswith(magic):
            raise CaptureError(f"is packed {how}")
    return file


def _tagged(number: int, packets: Iterator[Packet]) -> Iterator[tuple[int, Packet]]:
    for packet in packets:
        yield number, packet
