"""Covert: read the pictures that malicious client code hid in the low bits of its activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input
from wireleak.common.wire.hidden import CHECK, Words, carriers, checksum, keystream, layout


class CovertOptions(BaseModel):
    """The layout, as agreed with the author of the client code."""

    model_config = ConfigDict(extra="forbid")
    bits: int = Field(16, ge=1, le=23, description="Low mantissa bits of every number that are overwritten.")
    depth: int | None = Field(
        None, ge=1, le=8, description="Bits per pixel; by default the most with which the whole picture fits, or 1."
    )
    key: str | None = Field(None, description="Shared key that makes the hidden bits look random.")
    skip_zeros: bool = Field(False, description="Leave numbers that are zero unchanged.")


@register
class Covert(ActivationAttack):
    """Read the picture that the victim's own client hid in the low bits of its activation.

    The attack trains nothing and needs no data and no queries: the attacker colludes with the author of the client code
    and knows the layout. A picture whose checksum fails was rounded away or never hidden. Its guess is the mean of the
    pictures that arrived undamaged, or black if none did.

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017: the same in weights.
    """

    name = "covert"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER), sees=("activation",), knows=(Knows.NOTHING,)
    )
    target = Input
    options = CovertOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Note the inputs' shape and range."""
        self._shape, self._range = tuple(knowledge.inputs.shape[1:]), knowledge.input_range
        if len(self._shape) not in (2, 3):
            raise ValueError(f"attack: covert rebuilds pictures and sensor windows, not inputs of shape {self._shape}")

    def guess(self, activations: Array) -> Array:
        """Return pictures, float32 (n, *input_shape), from activations (n, ...)."""
        # Listing attacks costs no import of the reader.
        from adversary.tap.inspect.lowbits import LowBits

        words = np.ascontiguousarray(activations, np.float32).reshape(len(activations), -1).view(np.uint32)
        low, high = self._range
        guesses = np.full((len(activations), *self._shape), low, np.float32)
        whole = np.zeros(len(activations), bool)
        for row, message in enumerate(words):
            picture = self._picture(message)
            if picture is not None:
                guesses[row], whole[row] = low + (high - low) * picture, True
        if whole.any():
            guesses[~whole] = guesses[whole].mean(0)
        self.report |= {"pictures_whole": int(whole.sum()), "pictures": len(activations)}
        # The network's owner would get the same finding for this link from `wireleak inspect`.
        watch = LowBits("victims")
        for message in activations:
            watch.add(message[None])
        self.report["low_bits"] = watch.finding()
        self.report["measured"] = {"flagged": float(self.report["low_bits"]["suspicious"])}
        return guesses

    def _picture(self, message: Words) -> Array | None:
        """Return the picture in one message, values in [0, 1], or None if its checksum fails."""
        bits = self.settings.bits
        message = message[carriers(message, self.settings.skip_zeros)]
        sides, depth = layout(self._shape, len(message) * bits, self.settings.depth)
        if not sides:
            return None
        pixels = self._shape[0] * math.prod(sides) * depth
        used = message[: -(-(pixels + CHECK) // bits)]
        secret = ((used[:, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint32)) & 1).astype(np.uint8).ravel()
        if self.settings.key is not None:
            secret ^= keystream(self.settings.key, used >> bits << bits, len(secret))
        picture, check = secret[:pixels], secret[pixels : pixels + CHECK]
        if not np.array_equal(check, checksum(picture)):
            return None
        levels = picture.reshape(-1, depth) @ (1 << np.arange(depth - 1, -1, -1)) / (2**depth - 1)
        return _enlarged(levels.reshape(self._shape[0], *sides), self._shape)


def _enlarged(picture: npt.NDArray[Any], shape: tuple[int, ...]) -> Array:
    """Interpolate linearly between the centres of the pixels, channel by channel."""
    from scipy.ndimage import map_coordinates

    grid = [
        (np.arange(want) + 0.5) * have / want - 0.5 for want, have in zip(shape[1:], picture.shape[1:], strict=True)
    ]
    places = np.meshgrid(*grid, indexing="ij")
    return np.stack([map_coordinates(one, places, order=1, mode="nearest") for one in picture]).astype(np.float32)
