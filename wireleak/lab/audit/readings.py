"""What an audit reads of a cut besides the attacks' scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

_ROUNDING = 1e-9


@dataclass(frozen=True)
class AttributeInformation:
    """V-information (bits) of a cut's activations about one attribute, the label's entropy, and the largest null."""

    bits: float
    entropy: float
    null: float
    family: str


@dataclass(frozen=True)
class WordsRead:
    """Share of the victims' words that are read from their vectors, and the share of the commonest word."""

    share: float
    majority: float
    n: int

    @property
    def gained(self) -> float:
        """How far the share goes from the commonest word's share to 1, 0 to 1."""
        return min(max((self.share - self.majority) / (1 - self.majority), 0.0), 1.0) if self.majority < 1 else 0.0


@dataclass(frozen=True)
class CutReading:
    """A cheap reading of a cut: of ridge regression and the nearest neighbour, the stronger in each measure.

    Parameters
    ----------
    cut : int
    pairs, victims : int
        Examples of the attacker and of the victims on which it rests.
    by : str
        Reader with the lower MSE, "ridge" or "nearest".
    mse, low, high, prior : float
        Its MSE with a 95 % interval over the victims, and the MSE of the mean image.
    reid, reid_low, reid_high, chance : float
        Share of these victims that are re-identified, by either reader.
    """

    cut: int
    pairs: int
    victims: int
    by: str
    mse: float
    low: float
    high: float
    prior: float
    reid: float
    reid_low: float
    reid_high: float
    chance: float

    @property
    def explained(self) -> float:
        """Share of the prior's error that is removed, 0 to 1."""
        return min(max(1 - self.mse / self.prior, 0.0), 1.0) if self.prior > 0 else 0.0

    @property
    def leakage(self) -> float:
        """The larger share of pixels and identity that leaks, 0 to 1, as for an attack."""
        return max(self.explained, min(max((self.reid - self.chance) / (1 - self.chance), 0.0), 1.0))

    @property
    def outcome(self) -> Literal["leak", "part", "open"]:
        """Whether inputs are rebuilt and victims re-identified, one of both, or neither is shown by the intervals."""
        # A share of the victims may equal chance but for rounding.
        shown = (self.high < self.prior) + (self.reid_low > self.chance + _ROUNDING)
        return ("open", "part", "leak")[shown]

    @property
    def basis(self) -> str:
        """What the reading rests on, in words."""
        return f"{self.by} on {self.pairs} pairs and {self.victims} victims, computed in process"


@dataclass
class Readings:
    """Information by cut and attribute, and words by cut, both of the first seed; `skipped` says why a cut has none."""

    information: dict[tuple[int, str], AttributeInformation] = field(default_factory=dict)
    words: dict[int, WordsRead] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
