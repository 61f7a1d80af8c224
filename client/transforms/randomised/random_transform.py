"""Random draws of transforms, which follow from the seed and the first batch."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import torch

from client.transforms.registry import Transform


def generator(seed: int, first: torch.Tensor, stream: str = "") -> torch.Generator:
    """Make a generator from a seed and a batch, so that a study repeats and no two devices draw the same numbers.

    `stream` separates the draws of two steps of a chain that start with the same batch, such as after a mask that hid
    nothing. A real device must draw from its operating system.
    """
    entropy = seed.to_bytes(8, "little") + first.detach().numpy().tobytes() + stream.encode()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(entropy).digest()[:7], "little"))


class RandomTransform(Transform):
    """A transform that adds randomness.

    Attributes
    ----------
    stream : str
        Name of its random stream; by default the name of the transform.
    """

    stream: ClassVar[str | None] = None

    def __init__(self, settings: Any, seed: int) -> None:
        super().__init__(settings, seed)
        self._generator: torch.Generator | None = None

    def generator(self, activation: torch.Tensor) -> torch.Generator:
        """Return its generator, which is made at the first batch."""
        if self._generator is None:
            self._generator = generator(self.seed, activation, self.name if self.stream is None else self.stream)
        return self._generator
