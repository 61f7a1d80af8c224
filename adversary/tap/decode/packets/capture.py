"""Decode capture files to TCP segments as a stream; several files are merged by time."""

from __future__ import annotations

import gzip
import heapq
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from adversary.tap.decode.packets import ip, pcap
from adversary.tap.decode.packets.pcap import CaptureError, Packet
from wireleak.common.words import counted

Progress = Callable[[int], None]

_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"


class Capture:
    """One capture file. After its packets were read, `note` is the fault of the file, or "".

    A run may compress its captures, so `link.pcap` also names `link.pcap.gz`.

    Raises
    ------
    CaptureError
        The file is missing, empty or not a capture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = ""
        self.packets_read = 0
        packed = path.with_name(f"{path.name}.gz")
        self._file = packed if not path.exists() and packed.exists() else path
        try:
            with self._file.open("rb") as file:
                self._decoder = pcap.decoder(_unpacked(file).read(4))
        except (OSError, EOFError, zlib.error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CaptureError(f"{path}: cannot be read: {reason}") from error
        except CaptureError as error:
            raise CaptureError(f"{path}: {error}") from None

    def packets(self, progress: Progress) -> Iterator[Packet]:
        """Yield the file's packets up to its end or to its first broken part."""
        with self._file.open("rb", buffering=0) as file:
            pieces, place = _unpacked(file), 0
            while True:
                try:
                    if not (piece := pieces.read(_PIECE)):
                        break
                    for packet in self._decoder.feed(piece):
                        self.packets_read += 1
                        yield packet
                except (CaptureError, OSError, EOFError, zlib.error) as error:
                    self.note = f"{error} (after {counted(self.packets_read, 'packet')})"
                    return
                # Bytes of the file, also where it is compressed.
                progress(file.tell() - place)
                place = file.tell()
        if self._decoder.pending():
            self.note = f"is truncated in the middle of a packet (after {counted(self.packets_read, 'packet')})"
        elif not self.packets_read:
            self.note = "holds no packets"


def segments(captures: Sequence[Capture], progress: Progress) -> Iterator[tuple[int, ip.Segment]]:
    """Yield the TCP segments of all captures in order of time; each capture keeps its own order.

    Yields
    ------
    tuple of int and Segment
        The capture's number, and the segment; its data is valid only until the next segment is taken.
    """
    sources = [_tagged(number, capture.packets(progress)) for number, capture in enumerate(captures)]
    merged = sources[0] if len(sources) == 1 else heapq.merge(*sources, key=lambda item: item[1].time)
    for number, packet in merged:
        segment = ip.segment(packet)
        if segment is not None:
            yield number, segment


def _unpacked(file: BinaryIO) -> BinaryIO:
    """Return the bytes of a capture, which may be compressed by gzip."""
    packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file


def _tagged(number: int, packets: Iterator[Packet]) -> Iterator[tuple[int, Packet]]:
    for packet in packets:
        yield number, packet
