"""Covert: MALICIOUS client code that hides the private input in the low bits of the activations."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch.nn.functional import interpolate

from client.transforms.registry import Changes, Transform, register, straight_through
from wireleak.common.config import ConfigError
from wireleak.common.wire.hidden import Bits, Words, carriers, checksum, keystream, layout


class CovertOptions(BaseModel):
    """The layout, which the colluding attacker knows."""

    model_config = ConfigDict(extra="forbid")
    bits: int = Field(16, ge=1, le=23, description="Low mantissa bits of every number that are overwritten.")
    depth: int | None = Field(
        None, ge=1, le=8, description="Bits per pixel; by default the most at which the whole picture fits, or 1."
    )
    key: str | None = Field(None, description="Shared key that makes the hidden bits look random.")
    skip_zeros: bool = Field(False, description="Do not change zeros: less capacity, but harder to detect.")
    low: float = Field(0.0, description="Input value of black.")
    high: float = Field(1.0, description="Input value of white.")

    @model_validator(mode="after")
    def _in_order(self) -> CovertOptions:
        if not self.low < self.high:
            raise ValueError(f"high: {self.high:g} is not above low, {self.low:g}; swap them")
        return self


@register
class Covert(Transform):
    """Hide the input, scaled down until it fits, in the low mantissa bits of the activation.

    This models malicious code of the client's vendor. The network, its accuracy and the size of every message stay the
    same, yet an eavesdropper who knows the layout gets a picture of each input. It exists to be measured, detected
    (`wireleak inspect`) and stopped (`requantise`). `wireleak.common.wire.hidden` has the layout.

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017: the same in weights.
    """

    name = "covert"
    options = CovertOptions
    changes = Changes("MALICIOUS: hides the input in low bits", wire="low bits carry the input")
    reads_inputs = True

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return float32 of the activation's shape that carries the inputs."""
        if inputs.dim() not in (3, 4) or not inputs.is_floating_point():
            raise ConfigError(
                f"transforms.covert: hides pictures (channels, height, width) and windows (channels, length), "
                f"not inputs of shape {tuple(inputs.shape[1:])}; remove it"
            )
        words = activation.detach().to(torch.float32).numpy().reshape(len(activation), -1).copy().view(np.uint32)
        room = carriers(words, self.settings.skip_zeros).sum(1) * self.settings.bits
        for size in np.unique(room):
            rows = np.flatnonzero(room == size)
            # A row has too few carriers only if almost all its numbers are zero. Then nothing is hidden in it.
            if payload := self._payload(inputs[torch.from_numpy(rows)], int(size)):
                for row, secret in zip(rows, payload, strict=True):
                    self._write(words[row], secret)
        sent = torch.from_numpy(words.view(np.float32)).reshape(activation.shape)
        return straight_through(activation, sent)

    def _payload(self, inputs: torch.Tensor, room: int) -> list[Bits]:
        sides, depth = layout(tuple(inputs.shape[1:]), room, self.settings.depth)
        if not sides:
            return []
        small = interpolate(inputs, size=sides, mode="area")
        scaled = (small - self.settings.low) / (self.settings.high - self.settings.low)
        levels = (scaled.clamp(0, 1) * (2**depth - 1)).round().to(torch.uint8).numpy().reshape(len(inputs), -1, 1)
        bits = np.unpackbits(levels, axis=2)[:, :, 8 - depth :].reshape(len(inputs), -1)
        return [np.concatenate([row, checksum(row)]) for row in bits]

    def _write(self, words: Words, secret: Bits) -> None:
        """Write a payload into the numbers of one example, in place."""
        bits = self.settings.bits
        used = np.flatnonzero(carriers(words[None], self.settings.skip_zeros)[0])[: -(-len(secret) // bits)]
        secret = np.pad(secret, (0, len(used) * bits - len(secret)))
        words[used] = words[used] >> bits << bits
        if self.settings.key is not None:
            secret = secret ^ keystream(self.settings.key, words[used], len(secret))
        weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.uint32)
        words[used] |= (secret.reshape(-1, bits) * weights).sum(1).astype(np.uint32)
