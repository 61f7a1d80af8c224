"""The spool bounds its memory when the disk is slow, and loses nothing."""

import threading
import time
from pathlib import Path
from typing import Any

from adversary.tap.sources.record import CaptureWriter
from adversary.tap.sources.spool import BLOCK, MAX_BLOCKS, Spool


class SlowCapture(CaptureWriter):
    """Writes only once it may."""

    may_write = threading.Event()

    def write(self, batch: Any) -> None:
        if len(batch.pieces) > 1:
            self.may_write.wait(20)
        super().write(batch)


def test_a_slow_disk_holds_the_receiver_back(tmp_path: Path, streams: Any) -> None:
    capture = SlowCapture(tmp_path / "slow.pcap")
    conversation = capture.converse(("127.0.0.1", 1), ("127.0.0.1", 2), time.time_ns())
    spool = Spool([capture], lambda: None)
    size, total = 256 << 10, 400
    kept = 0

    def receive() -> None:
        nonlocal kept
        for number in range(total):
            space = spool.space(size)
            space[:] = bytes([number & 0xFF]) * size
            spool.keep(size)
            conversation.data(0, space, time.time_ns())
            kept += size

    receiver = threading.Thread(target=receive)
    receiver.start()
    receiver.join(1.5)
    assert receiver.is_alive()
    assert kept == MAX_BLOCKS * BLOCK
    SlowCapture.may_write.set()
    receiver.join(20)
    spool.close()
    data = streams(tmp_path / "slow.pcap")[1, 2]
    assert data == b"".join(bytes([number & 0xFF]) * size for number in range(total))
