"""A number that results hold, and how it is written."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wireleak.common.words import decimal

# No-break, so that the sign never starts a line.
PERCENT = "\u00a0%"
LAST = 1000


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number that results hold.

    Parameters
    ----------
    name : str
        As results and studies spell it, with hyphens.
    label : str
        Short name for people.
    meaning : str
        One line for a reader who does not know it.
    higher_leaks : bool
        Whether a higher value means that more leaked.
    low, high : float
        Bounds of possible values; NaN where there is none.
    places : int
        Decimals when written.
    percent : bool
        Written as a percentage.
    unit : str
        Unit, empty for pure numbers.
    undefined : str
        Written in place of a value that is not defined: why, in a few words.
    margin : float
        Largest leak that still counts as none: what a score may exceed a guess without the traffic by; of an error,
        the share of the guess's error. NaN where the measure gives no such verdict.
    order : int
        Position among the columns of a table; a target's first column is its headline.
    """

    name: str
    label: str
    meaning: str
    higher_leaks: bool = True
    low: float = math.nan
    high: float = math.nan
    places: int = 3
    percent: bool = False
    unit: str = ""
    undefined: str = "–"
    margin: float = math.nan
    order: int = LAST

    def write(self, value: float) -> str:
        """Write `value` as people read it, without the unit unless it is a percent sign."""
        if math.isnan(value):
            return self.undefined
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        if self.percent:
            return decimal(value * 100, ".1f") + PERCENT
        return decimal(value, f".{self.places}f")
