"""Estimates of the memory of an attack, from shapes and counts only: an upper bound before anything starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wireleak.common.memory import BLOCK_BYTES
from wireleak.common.targets.baselines import nearest_memory
from wireleak.common.targets.ridge import ridge_memory

# Python, numpy, scipy and torch, before any data.
PROCESS_BYTES = 400 * 2**20
# An attack's own guess and its baselines': mean, background, ridge, nearest, shuffled, untrained, in-process.
_GUESSES = 8
_FLOAT = 4
# The most that a decoder which an attack trains may have, and what one example leaves in its layers, in numbers of the
# input: upper bounds where the decoder is not known yet.
DECODER_PARAMETERS, DECODER_HIDDEN = 12_000_000, 8
# Up to so many bytes of activations are kept standardised for training; larger ones are read batch by batch.
RESIDENT_BYTES = 2 * BLOCK_BYTES


@dataclass(frozen=True)
class Sizes:
    """Shapes and counts that decide an attack's memory.

    Parameters
    ----------
    pairs, victims : int
        The attacker's own pairs of input and activation, and the victims' activations.
    activation, image : tuple of int
        Shapes of one activation and of one input.
    """

    pairs: int
    victims: int
    activation: tuple[int, ...]
    image: tuple[int, ...]

    @property
    def held(self) -> int:
        """Bytes of activations, inputs and guesses, which an attack's process holds from its start to its end."""
        seen = (self.pairs + self.victims) * math.prod(self.activation)
        return _FLOAT * (seen + (self.pairs + _GUESSES * self.victims) * math.prod(self.image))


def attack_memory(sizes: Sizes, parameters: int = 0, hidden: int = 0) -> int:
    """Estimate the peak memory of a whole attack process, with its baselines.

    Parameters
    ----------
    sizes : Sizes
    parameters, hidden : int
        Of the network that it trains, see `training_memory`.
    """
    features, inputs = math.prod(sizes.activation), math.prod(sizes.image)
    baselines = max(ridge_memory(sizes.pairs, features, inputs), nearest_memory(sizes.pairs, sizes.victims))
    return PROCESS_BYTES + sizes.held + max(training_memory(sizes, parameters, hidden), baselines)


def training_memory(sizes: Sizes, parameters: int, hidden: int = 0, batch: int = 32) -> int:
    """Estimate the memory of training a network with Adam, with one batch and the activations that are kept for it.

    Of each parameter there are the weight, its gradient, two moments, and the best weight.

    Parameters
    ----------
    sizes : Sizes
    parameters : int
        Of the network.
    hidden : int
        Values that one example leaves in the network's layers.
    batch : int
        Pairs in one step.
    """
    example = 2 * math.prod(sizes.activation) + 4 * math.prod(sizes.image) + 3 * hidden
    resident = min(_FLOAT * sizes.pairs * math.prod(sizes.activation), RESIDENT_BYTES)
    # They are standardised, and then laid out for the device.
    return _FLOAT * (5 * parameters + batch * example) + 2 * resident
