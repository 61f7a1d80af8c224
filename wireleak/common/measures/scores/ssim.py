"""Structural similarity of reconstructed images.

Wang, Bovik, Sheikh, Simoncelli 2004: Gaussian window of sigma 1.5, 11 x 11, K1 .01, K2 .03, data range 1, averaged
over the windows that lie inside the image, as in the paper's code and scikit-image. torchmetrics' own mean also counts
windows over a mirrored border, which on small images with an empty margin reads much higher (.26 against .05 for the
mean image of Omniglot at 28 px), and its two-dimensional window takes ten times as long as two one-dimensional ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.measure import GuessKind, Measure, check_reconstruction, register
from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.measures.statistics.score import Doubles, Floats, Score
from wireleak.common.memory import blocks

_WINDOW, _SIGMA = 11, 1.5
_BORDER = _WINDOW // 2
_C1, _C2 = 0.01**2, 0.03**2
# Arrays of a picture's size that one comparison needs at once.
_MAPS = 12


@register
@dataclass(frozen=True, kw_only=True)
class StructuralSimilarity(Measure):
    """Mean over images of SSIM; 1 is a copy. He et al. 2019 call less than .3 unrecognisable."""

    name: str = "ssim"
    label: str = "SSIM"
    meaning: str = "structural similarity; 1 is the same picture, below 0.3 is hard to recognise"
    high: float = 1.0
    order: int = 50
    applies_to: GuessKind = "reconstruction"
    smallest_image: int = _WINDOW

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score images (n, channels, height, width) in [0, 1], at least 11 pixels a side."""
        check_reconstruction(guess, truth)
        if guess.ndim != 4 or min(guess.shape[2:]) < _WINDOW:
            raise ValueError(f"guess: ssim needs images of at least {_WINDOW}x{_WINDOW}, not {guess.shape[1:]}")
        values = np.empty(len(guess))
        for part in blocks(len(guess), 8 * _MAPS * guess[0].size):
            one, other = (np.asarray(a[part], np.float64) for a in (guess, truth))
            inner = _similarity(one, other)[..., _BORDER:-_BORDER, _BORDER:-_BORDER]
            values[part] = inner.mean(axis=(1, 2, 3))
        return mean_score(self.name, values, rng)


def _similarity(one: Doubles, other: Doubles) -> Doubles:
    """The paper's equation 13 at each pixel."""
    from scipy.ndimage import gaussian_filter

    def blur(image: Doubles) -> Doubles:
        return np.asarray(gaussian_filter(image, (0, 0, _SIGMA, _SIGMA), radius=_BORDER))

    mean, other_mean = blur(one), blur(other)
    squares, product = mean**2 + other_mean**2, mean * other_mean
    variances = blur(one**2 + other**2) - squares
    covariance = blur(one * other) - product
    return (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))
