"""Song, low bits: read pictures out of the low mantissa bits of the weights."""

from __future__ import annotations

import numpy as np

from adversary.attacks.harness.knowledge import Array
from adversary.attacks.harness.registry import register
from adversary.attacks.hidden.secrets import SecretAttack, SecretOptions, State
from adversary.participant.payloads import LowBitsLayout, carriers, flat, payload, read_low_bits, unpack


class SongLowBitsOptions(LowBitsLayout, SecretOptions):
    """The layout, as agreed with the author of the participant's code."""


@register
class SongLowBits(SecretAttack):
    """Read the pictures that malicious training code wrote into the low mantissa bits of its weights.

    A checksum shows whether compressed pictures arrived undamaged; the guess is black where they did not.

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017, section 4.1.
    """

    name = "song-low-bits"
    options = SongLowBitsOptions

    def decode(self, state: State, shape: tuple[int, ...]) -> Array:
        """Return pictures of `shape` in [0, 1]."""
        values = flat(state, carriers(state, matrices=False))
        found = unpack(read_low_bits(values, self.settings), shape, self.settings.compress)
        guess = np.zeros(shape, np.float32) if found is None else np.asarray(found / 255, np.float32)
        carried = 0 if found is None else 8 * found.size
        written = 0 if found is None else len(payload(found, self.settings.compress))
        self.report |= {"whole": found is not None, "parameters": len(values)}
        self.report["measured"] = {
            # Bits of the secret, and parameters written for it: compression puts more secret into fewer parameters.
            "bits-per-parameter": carried / len(values),
            "parameters-used": -(-written // self.settings.bits) / len(values),
        }
        return guess
