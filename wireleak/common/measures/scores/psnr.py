"""Peak signal-to-noise ratio of reconstructed images, in dB with peak 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.measure import GuessKind, Measure, check_reconstruction, register
from wireleak.common.measures.scores.mse import squared_errors
from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.measures.statistics.score import Floats, Score

# An exact copy would be infinite and would decide the mean alone; 1e-10 caps an image, and so the measure, at 100 dB.
_FLOOR = 1e-10


def decibels(guess: Floats, truth: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return the PSNR of each image, float64 (n,) in dB, at most 100."""
    return np.asarray(-10 * np.log10(np.maximum(squared_errors(guess, truth), _FLOOR)))


@register
@dataclass(frozen=True, kw_only=True)
class PeakSignalToNoise(Measure):
    """Mean over images of each one's 10 log10(1 / MSE), each image's MSE at least 1e-10 (100 dB).

    It is not the PSNR of the mean MSE, which is lower or equal.
    """

    name: str = "psnr"
    label: str = "PSNR"
    meaning: str = "peak signal-to-noise ratio with a peak of 1; higher is closer"
    high: float = 100.0
    places: int = 1
    unit: str = "dB"
    order: int = 60
    applies_to: GuessKind = "reconstruction"
    smallest_image: int = 1

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score images (n, channels, height, width) in [0, 1]."""
        check_reconstruction(guess, truth)
        return mean_score(self.name, decibels(guess, truth), rng)
