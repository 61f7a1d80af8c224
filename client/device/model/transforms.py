"""The transforms that need no training, in numpy: the same formulas as `client.transforms`, for a device that serves.

Noise comes from the operating system, as the guarantees of noise assume: an attacker who could compute the noise would
subtract it. In floating point the lowest bits of a noised number reveal more than the proofs, which are about real
numbers, say (Mironov, "On significance of the least significant bits for differential privacy", CCS 2012).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from client.device.model.errors import DeviceError
from client.device.model.manifest import Step

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Apply = Callable[[Floats, Mapping[str, Any], "Draws"], Floats]


class Draws:
    """Random numbers of the operating system, or repeatable ones.

    Parameters
    ----------
    seed : int, optional
        Seed of repeatable numbers, which protect nobody: for tests and comparisons only.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._bytes: Callable[[int], bytes] = os.urandom if seed is None else np.random.default_rng(seed).bytes

    def uniform(self, shape: tuple[int, ...]) -> Doubles:
        """Draw float64 between 0 and 1, both excluded."""
        count = int(np.prod(shape))
        words = np.frombuffer(self._bytes(8 * count), "<u8").reshape(shape)
        return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def gaussian(self, shape: tuple[int, ...]) -> Doubles:
        """Draw standard Gaussian float64 (Box and Muller 1958)."""
        length, angle = self.uniform((2, *shape))
        drawn: Doubles = np.sqrt(-2 * np.log(length)) * np.cos(2 * np.pi * angle)
        return drawn

    def laplace(self, shape: tuple[int, ...]) -> Doubles:
        """Draw Laplace float64 of scale 1: the difference of two exponentials."""
        first, second = -np.log(self.uniform((2, *shape)))
        drawn: Doubles = first - second
        return drawn


class Chain:
    """The transforms of a manifest, applied in order; those that only trained the encoder do nothing.

    Parameters
    ----------
    steps : iterable of Step
    seed : int, optional
        Seed of repeatable noise.

    Raises
    ------
    DeviceError
        This device cannot apply a transform; the message names it.
    """

    def __init__(self, steps: tuple[Step, ...], seed: int | None = None) -> None:
        self._steps = [step for step in steps if step.at_inference]
        self._draws = Draws(seed)
        for step in self._steps:
            if step.name not in TRANSFORMS:
                raise DeviceError(
                    f"manifest.transforms: this device cannot apply {step.name!r}, only {', '.join(TRANSFORMS)}; "
                    "serve with `python -m client serve`, or export a variant without it"
                )

    @property
    def draws(self) -> bool:
        """Whether any step draws random numbers."""
        return any(step.name in RANDOM for step in self._steps)

    def __call__(self, activation: Floats) -> Floats:
        """Return the float32 to send, of the activations' shape (n, ...)."""
        for step in self._steps:
            activation = TRANSFORMS[step.name](activation, step.options, self._draws)
        return activation


def clipped(activation: Floats, clip: float, norm: int) -> Floats:
    """Scale each example of (n, ...) down to a length of `clip` or less, in L1 (`norm` 1) or Euclidean norm (2)."""
    finite = np.nan_to_num(activation)
    flat = finite.reshape(len(finite), -1)
    # A length of 0 or beyond float32 divides to infinity or 0, and the factor is right.
    with np.errstate(over="ignore"):
        length = np.maximum(np.linalg.norm(flat, norm, axis=1), np.finfo(np.float32).tiny)
        factor = np.minimum(np.float32(clip) / length, np.float32(1))
    scaled: Floats = flat * factor[:, None]
    return scaled.reshape(activation.shape)


def _added(activation: Floats, scale: float, noise: Doubles) -> Floats:
    sent: Floats = activation + (scale * noise).astype(np.float32)
    return sent


def _noise(activation: Floats, options: Mapping[str, Any], draws: Draws) -> Floats:
    if options.get("clip") is not None:
        activation = clipped(activation, options["clip"], 2)
    return _added(activation, options["sigma"], draws.gaussian(activation.shape))


def _laplace(activation: Floats, options: Mapping[str, Any], draws: Draws) -> Floats:
    if options.get("clip") is None:
        scale = options["scale"]
    else:
        activation = clipped(activation, options["clip"], 1)
        scale = 2 * options["clip"] / options["epsilon"]
    return _added(activation, scale, draws.laplace(activation.shape))


def _quantise(activation: Floats, options: Mapping[str, Any], draws: Draws) -> Floats:
    clip = options.get("clip")
    low, high = (options["low"], options["high"]) if clip is None else (-clip, clip)
    steps = 2 ** options["bits"] - 1
    inside = np.clip(np.nan_to_num(activation), low, high).astype(np.float64)
    level = np.round((inside - low) * (steps / (high - low)))
    sent: Floats = (low + level * ((high - low) / steps)).astype(np.float32)
    return sent


def _dropout(activation: Floats, options: Mapping[str, Any], draws: Draws) -> Floats:
    kept = draws.uniform(activation.shape) >= options["rate"]
    sent: Floats = np.where(kept, activation, np.float32(0))
    return sent / np.float32(1 - options["rate"]) if options.get("scaled", True) else sent


TRANSFORMS: dict[str, Apply] = {"noise": _noise, "laplace": _laplace, "quantise": _quantise, "dropout": _dropout}
RANDOM = ("noise", "laplace", "dropout")
