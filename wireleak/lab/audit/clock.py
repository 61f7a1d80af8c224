"""The time of an audit: what its budget leaves, counted from the start of the command."""

from __future__ import annotations

import time

import psutil

# Parts of a budget, and seconds at least, that are kept for reading the captures again and for the report, and of them
# for the report.
_REPORTING, _PAGE = (0.15, 24.0), (0.07, 12.0)


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

    @property
    def reporting(self) -> float:
        """Seconds that are kept for all that follows the attacks."""
        return self._kept(*_REPORTING)

    @property
    def page(self) -> float:
        """Seconds that are kept for the audit's own page."""
        return self._kept(*_PAGE)

    def left(self, kept: float = 0.0) -> float | None:
        """Return the seconds of the budget that are left, without some that are kept; None without a budget."""
        return None if self.budget is None else max(0.0, self.budget - kept - self.spent)

    def deadline(self, kept: float) -> float | None:
        """Return the time by `time.monotonic` at which only these seconds of the budget are left."""
        return None if self.budget is None else self.began + self.budget - kept

    def late(self, kept: float) -> bool:
        """Whether no more than these seconds are left."""
        return self.left(kept) == 0.0

    def _kept(self, part: float, least: float) -> float:
        return 0.0 if self.budget is None else max(part * self.budget, least)


def process_seconds() -> float:
    """Return the seconds since this process began, which include its imports."""
    return max(0.0, time.time() - psutil.Process().create_time())
