"""Quality of a recovered hidden picture: error of its grey levels, cosine and bits, as Song et al. report them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.measure import GuessKind, Measure, check_reconstruction, register
from wireleak.common.measures.scores.registry import score_reconstruction
from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.measures.statistics.score import Doubles, Floats, Score


@register
@dataclass(frozen=True, kw_only=True)
class MeanAbsolutePixelError(Measure):
    """MAPE: mean absolute difference of grey levels, 0 to 255, of pictures in [0, 1].

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017.
    """

    name: str = "mape"
    label: str = "MAPE"
    meaning: str = "mean absolute error of a hidden picture's grey levels, 0 to 255; lower is closer"
    higher_leaks: bool = False
    low: float = 0.0
    high: float = 255.0
    places: int = 1
    order: int = 120
    applies_to: GuessKind = "secret"

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score pictures (n, ...)."""
        rebuilt, original = _rows(guess, truth)
        return mean_score(self.name, 255 * np.abs(rebuilt - original).mean(1), rng)


@register
@dataclass(frozen=True, kw_only=True)
class Cosine(Measure):
    """Cosine of the angle between a picture and its reconstruction, values in [0, 1]; 0 where either is black."""

    name: str = "cosine"
    label: str = "Cosine"
    meaning: str = "cosine of the angle between a hidden picture and its reconstruction"
    high: float = 1.0
    order: int = 130
    applies_to: GuessKind = "secret"

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score pictures (n, ...)."""
        rebuilt, original = _rows(guess, truth)
        lengths = np.linalg.norm(rebuilt, axis=1) * np.linalg.norm(original, axis=1)
        inner = (rebuilt * original).sum(1)
        return mean_score(self.name, np.divide(inner, lengths, out=np.zeros_like(inner), where=lengths > 0), rng)


@register
@dataclass(frozen=True, kw_only=True)
class BitAccuracy(Measure):
    """Share of the bits that are right when each pixel is written with 8 bits."""

    name: str = "bit-accuracy"
    label: str = "Bits right"
    meaning: str = "share of a hidden picture's bits that were read correctly, 8 per pixel"
    low: float = 0.0
    high: float = 1.0
    percent: bool = True
    margin: float = 0.05
    order: int = 140
    applies_to: GuessKind = "secret"

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score pictures (n, ...)."""
        wrong = np.bitwise_xor(*(np.rint(255 * np.clip(rows, 0, 1)).astype(np.uint8) for rows in _rows(guess, truth)))
        return mean_score(self.name, 1 - np.unpackbits(wrong, axis=1).mean(1), rng, chance=0.5)


def secret_scores(guess: Floats, truth: npt.NDArray[np.float32], rng: np.random.Generator) -> list[Score]:
    """Every measure of a reconstruction, then those of a hidden picture; both (n, *shape) in [0, 1].

    Raises
    ------
    ValueError
        Shapes differ, there are no rows, or a guess is not finite.
    """
    hidden: tuple[Measure, ...] = (MeanAbsolutePixelError(), Cosine(), BitAccuracy())
    scores = [measure(guess, truth, one) for measure, one in zip(hidden, rng.spawn(3), strict=True)]
    return score_reconstruction(guess, truth, rng) + scores


def _rows(guess: Floats, truth: npt.NDArray[np.generic]) -> tuple[Doubles, Doubles]:
    check_reconstruction(guess, truth)
    n = len(guess)
    return guess.reshape(n, -1).astype(np.float64), truth.reshape(n, -1).astype(np.float64)
