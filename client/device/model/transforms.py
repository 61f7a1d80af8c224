"""The transforms that need no training, in numpy: the same formulas as `client.transforms`, for a device that serves.

Some change the input before the encoder computes anything, the others change the activation.

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
    kind : str, optional
        Kind of the inputs, as the manifest has it; text and characters are word numbers. None leaves it unchecked.

    Raises
    ------
    DeviceError
        This device cannot apply a transform, or not to such inputs; the message names it.
    """

    def __init__(self, steps: tuple[Step, ...], seed: int | None = None, kind: str | None = None) -> None:
        self._steps = [step for step in steps if step.at_inference]
        self._draws = Draws(seed)
        for step in self._steps:
            if step.name not in TRANSFORMS:
                raise DeviceError(
                    f"manifest.transforms: this device cannot apply {step.name!r}, only {', '.join(TRANSFORMS)}; "
                    "serve with `python -m client serve`, or export a variant without it"
                )
            if kind is not None and ON_INPUT.get(step.name) == ("numbers" if kind in WORDS else "words"):
                raise DeviceError(
                    f"manifest.transforms: {step.name} acts on inputs of {ON_INPUT[step.name]}, but the encoder takes "
                    f"inputs of kind {kind}; export without it"
                )

    @property
    def draws(self) -> bool:
        """Whether any step draws random numbers."""
        return any(step.name in RANDOM for step in self._steps)

    def __call__(self, activation: Floats) -> Floats:
        """Return the float32 to send, of the activations' shape (n, ...)."""
        return self._apply(activation, on_input=False)

    def before(self, inputs: Floats) -> Floats:
        """Return what the encoder gets instead of inputs (n, ...)."""
        return self._apply(inputs, on_input=True)

    def _apply(self, values: Floats, on_input: bool) -> Floats:
        for step in self._steps:
            if (step.name in ON_INPUT) == on_input:
                values = TRANSFORMS[step.name](values, step.options, self._draws)
        return values


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


def _word_response(words: Floats, options: Mapping[str, Any], draws: Draws) -> Floats:
    count = options["words"]
    if not ((words == np.round(words)) & (words >= 0) & (words <= count)).all():
        raise DeviceError(
            f"transforms.word-response: inputs must be word numbers from 0 to {count}; export a larger `words`"
        )
    kept = 1 / (1 + (count - 1) * np.exp(-options["epsilon"]))
    # A step of 1 to count - 1 around the circle of words reaches each other word once.
    step = 1 + np.floor(draws.uniform(words.shape) * (count - 1))
    other = (words - 1 + step) % count + 1
    sent: Floats = np.where((words > 0) & (draws.uniform(words.shape) >= kept), other, words).astype(np.float32)
    return sent


TRANSFORMS: dict[str, Apply] = {
    "noise": _noise,
    "laplace": _laplace,
    "quantise": _quantise,
    "dropout": _dropout,
    "input-noise": _noise,
    "input-laplace": _laplace,
    "word-response": _word_response,
}
RANDOM = ("noise", "laplace", "dropout", "input-noise", "input-laplace", "word-response")
# Those that change the input, and the kind of input that they take.
ON_INPUT = {"input-noise": "numbers", "input-laplace": "numbers", "word-response": "words"}
WORDS = ("text", "characters")
