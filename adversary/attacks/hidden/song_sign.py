"""Song, signs: read pictures out of the signs of the weights."""

from __future__ import annotations

import math

import numpy as np
from pydantic import ConfigDict

from adversary.attacks.harness.knowledge import Array
from adversary.attacks.harness.registry import register
from adversary.attacks.hidden.secrets import SecretAttack, SecretOptions, State
from adversary.participant.payloads import carriers, flat, read_signs


class SongSignOptions(SecretOptions):
    """The layout has no options of its own."""

    model_config = ConfigDict(extra="forbid")


@register
class SongSign(SecretAttack):
    """Read the pictures whose bits malicious training code pushed the signs of its weights towards.

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017, section 4.3.
    """

    name = "song-sign"
    options = SongSignOptions

    def decode(self, state: State, shape: tuple[int, ...]) -> Array:
        """Return pictures of `shape` in [0, 1]."""
        values = flat(state, carriers(state, matrices=True))
        self.report |= {"weights": len(values)}
        self.report["measured"] = {"bits-per-parameter": 8 * math.prod(shape) / len(values)}
        return np.asarray(read_signs(values, shape) / 255, np.float32)
