"""Say what a run is doing while nobody sees its progress bars, and measure its memory."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import psutil

from wireleak.lab.run.limits import resident

_SECONDS = 1.0
_SILENCE = 8.0


class Watch:
    """A thread that calls `say` with the state of a run, and keeps the peak memory of this process and its children.

    Parameters
    ----------
    state : callable
        Returns the state in one line.
    say : callable or None
        Called with the seconds since the start and the state, every 8 seconds; None to be silent.
    began : float, optional
        Start by `time.monotonic`; by default the start of the watch.

    Attributes
    ----------
    peak : int
        Largest memory so far, in bytes; shared pages count once.
    """

    def __init__(self, state: Callable[[], str], say: Callable[[str], None] | None, began: float | None = None) -> None:
        self.peak = 0
        self._began = began
        self._state, self._say = state, say
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        spoke = time.monotonic()
        began = spoke if self._began is None else self._began
        while not self._ended.wait(_SECONDS):
            # A process that ends while it is read must not end this thread.
            with contextlib.suppress(psutil.Error, OSError, ValueError):
                self.peak = max(self.peak, resident(psutil.Process(), children=True))
            now = time.monotonic()
            if self._say is not None and now - spoke >= _SILENCE and (state := self._state()):
                spoke = now
                self._say(f"[{now - began:.0f} s] {state}")
