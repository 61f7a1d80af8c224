"""The time of an audit: what its budget leaves, counted from the start of the command."""

from __future__ import annotations

import time

import psutil

# Part of a budget that is kept for reading the captures again, and for the report.
REPORTING = 0.15


class Clock:
    """A clock that starts with a command, and says what is left of its budget.

    Parameters
    ----------
    budget : float or None
        Seconds in which the audit ends; None without a limit.
    before : float
        Seconds that had passed when the clock was made, such as those of imports.

    Attributes
    ----------
    began : float
        Start by `time.monotonic`.
    """

    def __init__(self, budget: float | None, before: float = 0.0) -> None:
        self.budget = budget
        self.began = time.monotonic() - before

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def left(self, kept: float = 0.0) -> float | None:
        """Return the seconds of the budget that are left, without a part that is kept; None without a budget."""
        return None if self.budget is None else max(0.0, (1 - kept) * self.budget - self.spent)

    def deadline(self, kept: float = REPORTING) -> float | None:
        """Return the time by `time.monotonic` at which the budget, without a part that is kept, is spent."""
        left = self.left(kept)
        return None if left is None else time.monotonic() + left

    def late(self, kept: float) -> bool:
        """Whether no more than this part of the budget is left."""
        return self.left(kept) == 0.0


def process_seconds() -> float:
    """Return the seconds since this process began, which include its imports."""
    return max(0.0, time.time() - psutil.Process().create_time())
