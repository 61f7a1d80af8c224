"""Random numbers of a transform: they follow from the seed and from the first batch that it sees."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import torch

from client.transforms.registry import Transform


def generator(seed: int, first: torch.Tensor, stream: str = "") -> torch.Generator:
    """Make a generator from a seed and a batch: a study can be repeated, and no two devices draw the same numbers.

    `stream` keeps apart the draws of two steps of a chain that begin with one batch, as after a mask that hid nothing.
    A device in the field must draw from its operating system.
    """
    told = seed.to_bytes(8, "little") + first.detach().numpy().tobytes() + stream.encode()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(told).digest()[:7], "little"))


class RandomTransform(Transform):
    """A transform that adds randomness.

    Attributes
    ----------
    stream : str
        What its draws are told apart by; its name, unless it says otherwise.
    """

    stream: ClassVar[str | None] = None

    def __init__(self, settings: Any, seed: int) -> None:
        super().__init__(settings, seed)
        self._generator: torch.Generator | None = None

    def generator(self, activation: torch.Tensor) -> torch.Generator:
        """Give its generator, made at the first batch."""
        if self._generator is None:
            self._generator = generator(self.seed, activation, self.name if self.stream is None else self.stream)
        return self._generator
