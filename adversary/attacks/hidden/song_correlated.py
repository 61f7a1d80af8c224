"""Song, correlated values: read pictures out of weights that were made to correlate with them."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import ConfigDict, Field

from adversary.attacks.harness.knowledge import Array
from adversary.attacks.harness.registry import register
from adversary.attacks.hidden.secrets import SecretAttack, SecretOptions, State
from adversary.participant.payloads import carriers, flat, read_levels


class SongCorrelatedOptions(SecretOptions):
    """How weights become grey levels."""

    model_config = ConfigDict(extra="forbid")
    scale: Literal["mark", "extremes"] = Field(
        "mark", description="Source of white and black: the mark, or the extreme weights, as the authors do."
    )


@register
class SongCorrelated(SecretAttack):
    """Read the pictures that malicious training code made its weights correlate with.

    A mark of white and black comes before the pixels. It shows the sign of the correlation, which training chooses, and
    the weights that white and black became. The authors have no mark and use the extreme weights instead.

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017, section 4.2.
    """

    name = "song-correlated"
    options = SongCorrelatedOptions

    def decode(self, state: State, shape: tuple[int, ...]) -> Array:
        """Return pictures of `shape` in [0, 1]."""
        values = flat(state, carriers(state, matrices=True))
        pictures, inverted = read_levels(values, shape, extremes=self.settings.scale == "extremes")
        self.report |= {"weights": len(values), "inverted": inverted}
        self.report["measured"] = {"bits-per-parameter": 8 * math.prod(shape) / len(values)}
        return pictures
