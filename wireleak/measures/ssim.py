"""Structural similarity of reconstructed images.

Wang, Bovik, Sheikh, Simoncelli 2004: Gaussian window of sigma 1.5, 11 x 11, K1 .01, K2 .03, data range 1, averaged
over the windows that lie inside the image, as in the paper's code and scikit-image. torchmetrics' own mean also counts
windows over a mirrored border, which on small images with an empty margin reads much higher (.26 against .05 for the
mean image of Omniglot at 28 px).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.measures.bootstrap import mean_score
from wireleak.measures.score import Floats, Kind, Score, check_reconstruction, register

_WINDOW = 11
_BORDER = _WINDOW // 2
_CHUNK = 512


@register
@dataclass(frozen=True)
class StructuralSimilarity:
    """Mean over images of SSIM; 1 is a copy. He et al. 2019 call less than .3 unrecognisable."""

    name: str = "ssim"
    applies_to: Kind = "reconstruction"
    higher_leaks: bool = True
    smallest_image: int = _WINDOW

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score images (n, channels, height, width) in [0, 1], at least 11 pixels a side."""
        check_reconstruction(guess, truth)
        if guess.ndim != 4 or min(guess.shape[2:]) < _WINDOW:
            raise ValueError(f"ssim needs images of at least {_WINDOW}x{_WINDOW}, not {guess.shape[1:]}")
        # torchmetrics takes seconds to import: only who asks for SSIM waits for it.
        import torch
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim

        values = np.empty(len(guess))
        for start in range(0, len(guess), _CHUNK):
            pair = [np.array(a[start : start + _CHUNK], np.float32) for a in (guess, truth)]
            guesses, truths = (torch.from_numpy(half) for half in pair)
            _, similarity = ssim(guesses, truths, data_range=1.0, reduction="none", return_full_image=True)
            inner = similarity[..., _BORDER:-_BORDER, _BORDER:-_BORDER]
            values[start : start + _CHUNK] = inner.mean(dim=(1, 2, 3)).numpy()
        return mean_score(self.name, values, rng)
