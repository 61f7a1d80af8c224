"""The Secret Sharer's test: plant random numbers in a text, train a language model on it, and see how exposed they are.

References
----------
Carlini, Liu, Erlingsson, Kos, Song, "The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural
Networks", USENIX Security 2019.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt

from wireleak.common.config import Strict
from wireleak.common.measures.statistics.exposure import by_rank, extrapolation

if TYPE_CHECKING:
    from torch import nn

ALPHABET = string.ascii_lowercase + string.digits + " .,'-"
PHRASE = "the code is "
WINDOW = 20
_CHUNK = 2048
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


class Planting(Strict):
    """The auditor's settings, shared by the code that draws the numbers and the code that plants them."""

    times: tuple[PositiveInt, ...] = Field((1, 4, 16, 64), min_length=1, description="how often, one for each number")
    digits: int = Field(4, ge=2, le=6, description="of each number; an attacker ranks all numbers of so many digits")


@dataclass(frozen=True)
class ExposedCanary:
    """A planted number, and how exposed it is.

    Parameters
    ----------
    digits : str
        The number.
    times : int
        How often the text held it.
    perplexity : float
        Its log-perplexity after the phrase, in bits.
    exposure : float
        In bits, by its exact rank among all numbers of as many digits.
    extrapolated : float
        The same by a skew-normal fitted to other numbers' perplexities.
    """

    digits: str
    times: int
    perplexity: float
    exposure: float
    extrapolated: float


def numbers(text: str) -> Ints:
    """Each character's place in the alphabet plus 1; capitals become small, all that is missing a space."""
    place = {character: at for at, character in enumerate(ALPHABET, 1)}
    return np.array([place.get(character, place[" "]) for character in text.lower()], np.int64)


def windows(text: str, start: int = 0) -> tuple[Floats, Ints]:
    """Character windows (n, 20) and the class of what follows each (n,), for every character from `start` on."""
    padded = np.concatenate([np.zeros(WINDOW, np.int64), numbers(text)])
    held = np.lib.stride_tricks.sliding_window_view(padded, WINDOW + 1)[start:]
    return held[:, :-1].astype(np.float32), held[:, -1] - 1


def draw_canaries(times: Sequence[int], digits: int, rng: np.random.Generator) -> dict[str, int]:
    """Different random numbers of `digits` digits, each with how often it is to be planted."""
    drawn = rng.choice(10**digits, len(times), replace=False)
    return {f"{number:0{digits}d}": count for number, count in zip(drawn.tolist(), times, strict=True)}


def sentences(canaries: dict[str, int]) -> tuple[Floats, Ints]:
    """Windows and classes of every canary's sentence, as often as each is planted."""
    parts = [windows(f"{PHRASE}{digits}.") for digits, count in canaries.items() for _ in range(count)]
    inputs, classes = zip(*parts, strict=True)
    return np.concatenate(inputs), np.concatenate(classes)


def planted(text: str, canaries: dict[str, int]) -> tuple[Floats, Ints]:
    """Windows and classes of the text and of what is planted in it."""
    parts = [windows(text), sentences(canaries)]
    inputs, classes = zip(*parts, strict=True)
    return np.concatenate(inputs), np.concatenate(classes)


def perplexities(blocks: nn.Module, digits: int) -> Doubles:
    """Log-perplexity in bits of every number after the phrase, (10 ** digits,) in order.

    Numbers that begin alike share their first probabilities: the model is asked about (10 ** digits - 1) / 9 prefixes.
    """
    total, ten = np.zeros(1), [ALPHABET.index(character) for character in string.digits]
    for length in range(digits):
        prefixes = [PHRASE + (f"{number:0{length}d}" if length else "") for number in range(10**length)]
        asked = np.concatenate([windows(prefix + " ", start=len(prefix))[0] for prefix in prefixes])
        total = (total[:, None] - _log2_probabilities(blocks, asked)[:, ten]).ravel()
    return total


def exposures(
    blocks: nn.Module, canaries: dict[str, int], rng: np.random.Generator, samples: int = 1000
) -> list[ExposedCanary]:
    """How exposed each canary is; all must have the same number of digits.

    Parameters
    ----------
    blocks : nn.Module
        Windows (n, 20) -> logits over the alphabet.
    canaries : dict of str to int
    rng : numpy.random.Generator
        Draws the numbers to which the skew-normal is fitted.
    samples : int
        How many, at most.
    """
    return exposures_among(perplexities(blocks, len(next(iter(canaries)))), canaries, rng, samples)


def exposures_among(
    all_numbers: npt.ArrayLike, canaries: dict[str, int], rng: np.random.Generator, samples: int = 1000
) -> list[ExposedCanary]:
    """The same from the log-perplexities of all numbers (10 ** digits,) in order, in bits: those of `perplexities`."""
    found = np.asarray(all_numbers, np.float64)
    own = np.array([int(digits) for digits in canaries])
    others = np.setdiff1d(np.arange(len(found)), own)
    sampled = found[rng.choice(others, min(samples, len(others)), replace=False)]
    extrapolated = extrapolation(sampled)
    return [
        ExposedCanary(digits, times, at := float(found[int(digits)]), by_rank(at, found), extrapolated(at))
        for digits, times in canaries.items()
    ]


def _log2_probabilities(blocks: nn.Module, asked: Floats) -> Doubles:
    import torch

    blocks.eval()
    with torch.inference_mode():
        parts = [blocks(torch.from_numpy(asked[at : at + _CHUNK])) for at in range(0, len(asked), _CHUNK)]
        logs: Doubles = torch.cat(parts).double().log_softmax(1).numpy() / np.log(2)
    return logs
