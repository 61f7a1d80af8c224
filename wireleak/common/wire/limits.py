"""What head and gateway share to limit their peers: when a call gives way, and a filter for log lines."""

from __future__ import annotations

import logging
import time

# A call that has waited for its client so long gives its place to a new one.
GIVES_WAY_SECONDS = 1.0


class Seldom(logging.Filter):
    """Lets ten lines pass, and then one every ten seconds: a hostile peer must not fill the disk."""

    def __init__(self, burst: int = 10, seconds: float = 10.0) -> None:
        super().__init__()
        self._burst, self._seconds = float(burst), seconds
        self._left, self._since, self._hidden = float(burst), time.monotonic(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line may pass; it says how many were left out before it."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._since) / self._seconds)
        self._since = now
        if self._left < 1:
            self._hidden += 1
            return False
        self._left -= 1
        if self._hidden:
            record.msg, record.args = f"{record.getMessage()} ({self._hidden} lines like it left out)", ()
            self._hidden = 0
        return True
