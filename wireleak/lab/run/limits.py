"""Limits of time and memory within which a run stays: an attack that they stop is named, and the run goes on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import psutil

from wireleak.common.memory import LIMIT, written
from wireleak.common.targets.target import OWN
from wireleak.lab.run.job import AttackJob
from wireleak.lab.run.results import Row

# Beyond an attack's estimate: room for an allocator's slack and for networks that the estimate does not know.
_MARGIN = 2**29
_ALWAYS = 2
NO_TIME = "no time was left in the budget"


class LimitError(RuntimeError):
    """Limits do not let an attack start; the message is the reason."""


@dataclass
class Limits:
    """Limits of a run, and the attacks that they stopped.

    Parameters
    ----------
    memory : int
        Bytes for all processes of the run together, the lab's included.
    needs : callable
        Estimates the bytes of an attack's process.
    capture : int
        Bytes of the processes that serve one cell.
    deadline : float or None
        Time by `time.monotonic` after which no capture and no attack starts or runs on.
    captured : float or None
        Time by `time.monotonic` after which no further cell is captured, except for the first two.
    seconds : float
        Longest time of one attack.
    scored : int
        Bytes that the lab takes to score one attack.
    at_once : int or None
        Attacks that run at once, where those that have not started share the time that is left equally.
    brief : bool
        Whether costly measures of quality are taken of attacks only, and not of their baselines.

    Attributes
    ----------
    waiting : set of str
        Names of attacks that have not started.
    took : dict of str to float
        Seconds of finished attacks, by name.
    stopped : dict of str to str
        How far trainings came that ended early, by the name of the attack.
    skipped : dict of str to str
        Reason by the name of an attack that did not run to its end.
    rows : dict of str to list of Row
        Scores by the name of an attack, so that a run that goes on in the same process scores nothing twice.
    state : callable
        Returns what the run is doing, in one line.
    """

    memory: int
    needs: Callable[[AttackJob], int]
    capture: int
    deadline: float | None = None
    captured: float | None = None
    seconds: float = 3600.0
    scored: int = 0
    at_once: int | None = None
    brief: bool = False
    waiting: set[str] = field(default_factory=set)
    took: dict[str, float] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    state: Callable[[], str] = str

    def __post_init__(self) -> None:
        self._held = 0
        self._freed = threading.Condition()

    def refusal(self, job: AttackJob) -> str | None:
        """Return the reason why an attack cannot start, or None if it can."""
        if job.name in self.skipped:
            return self.skipped[job.name]
        if self.late:
            return NO_TIME
        if self.at_once is not None and (least := self._least(job)) > (left := self.remaining):
            return f"it needs about {least:.0f} s, and {left:.0f} s were left for it"
        needed, free = self.needs(job), self._free()
        if needed > free:
            return (
                f"it needs {written(needed)} of memory and {written(max(free, 0))} are left of {written(self.memory)}"
            )
        return None

    def leaves_out(self, number: int) -> bool:
        """Whether the cell of this number, in the study's order, is not captured for want of time."""
        return self.late or (number >= _ALWAYS and self.captured is not None and time.monotonic() > self.captured)

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.remaining <= 0

    @property
    def remaining(self) -> float:
        """Seconds that an attack that starts now may take."""
        if self.deadline is None:
            return self.seconds
        share = 1.0 if self.at_once is None else min(1.0, self.at_once / max(1, len(self.waiting)))
        return min(self.seconds, share * (self.deadline - time.monotonic()))

    def _least(self, job: AttackJob) -> float:
        """Return half of the fastest attack's seconds on the same target of the same cell; 0 before any has ended.

        A training stops with what it has, and the other attack may have waited for the processors.
        """
        start, end = f"{job.cell.name}-", f"-{job.target}"
        return 0.5 * min(
            (t for name, t in self.took.items() if name.startswith(start) and name.endswith(end)), default=0.0
        )

    @contextmanager
    def attacking(self, job: AttackJob) -> Iterator[dict[str, str]]:
        """Reserve an attack's memory, and yield the variables that limit its process; wait while others hold it.

        Raises
        ------
        LimitError
            It cannot start.
        """
        self._check(job)
        with self.reserved(self.needs(job) + _MARGIN) as granted:
            # Memory may have come free too late.
            self._check(job)
            yield {LIMIT: str(granted)}

    def _check(self, job: AttackJob) -> None:
        if (reason := self.refusal(job)) is not None:
            raise LimitError(reason)

    @property
    def quality(self) -> Collection[str] | None:
        """Guesses of which measures of quality are taken; within a deadline those of trained attacks at most."""
        if self.deadline is None:
            return (OWN,) if self.brief else None
        return (OWN,) if self.at_once is not None and not self.late else ()

    def scoring(self) -> AbstractContextManager[int]:
        """Reserve the lab's memory for scoring one attack."""
        return self.reserved(self.scored)

    @contextmanager
    def reserved(self, wanted: int) -> Iterator[int]:
        """Reserve memory, at most all that there is; wait while others hold it."""
        with self._freed:
            share = max(min(wanted, self._free()), 0)
            # Alone, a request always goes ahead: it was checked before, or has no smaller alternative.
            self._freed.wait_for(lambda: self._held == 0 or self._held + share <= self._free())
            self._held += share
        try:
            yield share
        finally:
            with self._freed:
                self._held -= share
                self._freed.notify_all()

    def _free(self) -> int:
        """Return the bytes that processes may take besides the lab and its fork server."""
        return self.memory - resident(psutil.Process()) - _MARGIN


def resident(process: psutil.Process, *, children: bool = False) -> int:
    """Return a process's memory in bytes, with its descendants' if asked; pages that processes share count once."""
    total = 0
    family = [process]
    with contextlib.suppress(psutil.Error):
        family += process.children(recursive=True) if children else []
    for member in family:
        with contextlib.suppress(psutil.Error):
            used = member.memory_full_info()
            total += int(getattr(used, "pss", 0) or used.rss)
    return total
