"""Fit a training into the time that an attack has."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from typing import TypeVar

from wireleak.common.words import PROGRESS

Step = TypeVar("Step")

# The time of a step is measured on the second to the fourth; the first is slower than the others.
_MEASURED = 4
# Of the time until the deadline, the part that steps may fill; the rest is for checks on held-out rows.
_FILLED = 0.85
# Seconds between two lines of progress.
_SILENT = 5.0


class Pace:
    """A training of some steps, of which as many are done as fit before a deadline.

    Without a deadline all of them are done, and no clock is read.

    Parameters
    ----------
    planned : int
        Steps of the whole training.
    deadline : float or None
        Time by `time.monotonic` at which the training stops with what it has.

    Attributes
    ----------
    done : int
        Steps so far.
    allowed : int
        Steps that fit, at most those planned. A schedule of learning rates should end with them.
    """

    def __init__(self, planned: int, deadline: float | None) -> None:
        self.planned = self.allowed = planned
        self.done = 0
        self._deadline = math.inf if deadline is None else deadline
        self._since = 0.0

    def step(self) -> bool:
        """Count a step; return whether fewer than planned will fit, which is found once, after the first steps."""
        self.done += 1
        if self._deadline == math.inf:
            return False
        if self.done == 1:
            self._since = time.monotonic()
        if self.done != _MEASURED:
            return False
        now = time.monotonic()
        each = max(now - self._since, 1e-6) / (_MEASURED - 1)
        left = max(0, math.floor(_FILLED * (self._deadline - now) / each))
        self.allowed = min(self.planned, self.done + left)
        return self.allowed < self.planned

    @property
    def left(self) -> int:
        """Steps that are still allowed."""
        return self.allowed - self.done

    @property
    def over(self) -> bool:
        """Whether the training ends now. The first step is always done."""
        late = self._deadline != math.inf and time.monotonic() > self._deadline
        return self.done > 0 and (self.done >= self.allowed or late)

    @property
    def stopped(self) -> str | None:
        """Say how far the training came, or None if it did all steps."""
        return f"stopped after {self.done} of {self.planned} steps" if self.done < self.planned else None


def shown(steps: Collection[Step], label: str) -> Iterable[Step]:
    """Return the steps; on a terminal a bar shows how many of them are done, elsewhere a line every five seconds."""
    # Listing attacks costs no import of rich.
    from rich.console import Console
    from rich.progress import track

    return track(steps, label, transient=True) if Console().is_terminal else _told(steps, label)


def _told(steps: Collection[Step], label: str) -> Iterator[Step]:
    said = time.monotonic()
    for number, step in enumerate(steps):
        if time.monotonic() - said > _SILENT:
            said = time.monotonic()
            print(f"{PROGRESS}{label.rpartition(': ')[2]}, {number} of {len(steps)}", file=sys.stderr, flush=True)
        yield step
