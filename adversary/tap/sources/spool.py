"""Hold received bytes in bounded memory until a thread of low priority has written them."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence

from adversary.tap.sources.record import CaptureWriteError, CaptureWriter, RecordBatch

BLOCK = 1 << 20
# 48 blocks of payload, their headers and the connections' backlogs stay below 64 MiB.
MAX_BLOCKS = 48
# Blocks made in advance: the first use of a memory page costs more than the copy into it.
READY_BLOCKS = 8
# Most records per block: many payloads of a few bytes would have headers larger than the block.
MAX_RECORDS = 4096
# Longest time from receiving bytes to writing them, ns.
DELAY_NS = 20_000_000
_NICENESS = 10

_Work = tuple[list[tuple[CaptureWriter, RecordBatch]], memoryview]


class Spool:
    """Blocks of memory to receive into, passed to a writer thread when full or old.

    Bytes are received directly into a block and written from there, so recording costs the relay's loop no copy and
    no system call. When all blocks wait for the disk, `space` waits too, which slows the senders (back-pressure).

    Parameters
    ----------
    captures : sequence of CaptureWriter
        The files.
    on_error : callable
        Called in the writer thread after `error` is set.
    """

    def __init__(self, captures: Sequence[CaptureWriter], on_error: Callable[[], None]) -> None:
        self.error: CaptureWriteError | None = None
        self._captures = captures
        self._on_error = on_error
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        # Last in, first out: the block freed last is still in the processor's cache.
        self._free: queue.LifoQueue[memoryview] = queue.LifoQueue()
        self._made = READY_BLOCKS + 1
        for _ in range(READY_BLOCKS):
            self._free.put(memoryview(bytearray(b"\1" * BLOCK)))
        self._block = memoryview(bytearray(BLOCK))
        self._used = 0
        self._kept = 0
        self._since = 0
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    def space(self, size: int) -> memoryview:
        """Return `size` bytes to receive into; call `keep` with the number of bytes received."""
        if BLOCK - self._used < size:
            self.hand_over(time.time_ns())
        return self._block[self._used : self._used + size]

    def keep(self, size: int) -> None:
        """Keep the first `size` bytes of the last space until they are written."""
        self._used += size
        self._kept += 1

    def hand_over_if_due(self, now: int, *, active: bool) -> bool:
        """Pass bytes to the writer at `now` (ns) if they are old or many; return whether some may still wait.

        `active` says whether bytes may have been received since the last call.
        """
        if not self._since:
            self._since = now if active else 0
            return active
        if self._kept < MAX_RECORDS and now - self._since < DELAY_NS:
            return True
        self.hand_over(now)
        return False

    def hand_over(self, now: int) -> None:
        """Pass all waiting bytes to the writer."""
        batches = [(capture, capture.take(now)) for capture in self._captures]
        work = [(capture, batch) for capture, batch in batches if batch.sizes]
        self._since = self._kept = 0
        if work:
            self._work.put((work, self._block))
            self._block = self._next_block()
        self._used = 0

    def close(self) -> None:
        """Write all waiting bytes, end the thread and close the files."""
        self.hand_over(time.time_ns())
        self._work.put(None)
        self._thread.join()
        for capture in self._captures:
            capture.close()

    def _next_block(self) -> memoryview:
        with contextlib.suppress(queue.Empty):
            return self._free.get_nowait()
        if self._made == MAX_BLOCKS:
            return self._free.get()
        self._made += 1
        return memoryview(bytearray(BLOCK))

    def _run(self) -> None:
        # Nice applies to one thread on Linux: with few processors, forwarding must win over recording.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while (item := self._work.get()) is not None:
            work, block = item
            for capture, batch in work:
                self._write(capture, batch)
            # The batch holds views of the block, and the next owner overwrites it.
            del work, item
            self._free.put(block)

    def _write(self, capture: CaptureWriter, batch: RecordBatch) -> None:
        if self.error is not None and self.error.path == capture.path:
            return
        try:
            capture.write(batch)
        except CaptureWriteError as error:
            self.error = error
            self._on_error()
