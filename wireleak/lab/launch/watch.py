"""Say what a command is doing, so that none is silent for long, and measure its memory."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self

import psutil
from rich.console import Console

from wireleak.lab.run.limits import resident

_SECONDS = 1.0
# Under load a look at the processes takes seconds, so lines are asked for well before ten seconds are over.
_SILENCE, _FIRST = 6.0, 3.0


class Watch:
    """A thread that calls `say` with the state of a run, and keeps the peak memory of this process and its children.

    Parameters
    ----------
    state : callable
        Returns the state in one line.
    say : callable or None
        Called with the seconds since the start and the state, after 3 seconds and every 6; None to be silent.
    began : float, optional
        Start by `time.monotonic`; by default the start of the watch.
    memory : bool
        Measure the memory.

    Attributes
    ----------
    peak : int
        Largest memory so far, in bytes; shared pages count once.
    """

    def __init__(
        self,
        state: Callable[[], str],
        say: Callable[[str], None] | None,
        began: float | None = None,
        memory: bool = True,
    ) -> None:
        self.peak = 0
        self._memory = memory
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
        now = time.monotonic()
        began = now if self._began is None else self._began
        # The command's imports took some seconds already.
        spoke = now - _SILENCE + _FIRST
        while not self._ended.wait(_SECONDS):
            # A process that ends while it is read must not end this thread.
            with contextlib.suppress(psutil.Error, OSError, ValueError):
                if self._memory:
                    self.peak = max(self.peak, resident(psutil.Process(), children=True))
            now = time.monotonic()
            if self._say is not None and now - spoke >= _SILENCE and (state := self._state()):
                spoke = now
                self._say(f"[{now - began:.0f} s] {state}")


def say(console: Console, line: str) -> None:
    """Print a line as it is: names in it may hold rich's markup."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


class Work:
    """What a command is doing at the moment: `state` returns it in one line, "" for nothing to say."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.state: Callable[[], str] = str

    def now(self, what: str) -> None:
        """Say `what` from here on."""
        self.state = lambda: what

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Say `what` while a part of the work lasts, by a spinner on a terminal."""
        self.now(what)
        with self._console.status(what) if self._console.is_terminal else contextlib.nullcontext():
            yield
        self.state = str


@contextmanager
def working(console: Console) -> Iterator[Work]:
    """Show what a command is doing until it ends; without a terminal by a plain line every few seconds."""
    work = Work(console)
    # A function, because the state changes.
    watch = Watch(lambda: work.state(), partial(say, console), memory=False)
    with contextlib.nullcontext() if console.is_terminal else watch:
        yield work


@contextmanager
def working_on(what: str, console: Console | None = None) -> Iterator[None]:
    """Say `what` while the only part of a command's work lasts, by default on stderr."""
    with working(console or Console(stderr=True)) as work, work.on(what):
        yield
