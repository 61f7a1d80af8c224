"""Re-identification: whether a reconstruction points at its own original among many.

A low error with re-identification at chance is the prior, not leakage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.score import Floats, Kind, Score, check_reconstruction, register
from wireleak.common.measures.statistics.bootstrap import Doubles, mean_score


@register
@dataclass(frozen=True)
class Reidentification:
    """Share of reconstructions whose nearest original by MSE is their own, among up to `candidates` (top 1).

    The originals are cut at random into blocks of equal size, at most `candidates`; within a block each is the
    others' distractor. Chance is 1 / block size. Identical originals share a hit.
    """

    candidates: int = 1000
    name: str = "reid"
    applies_to: Kind = "reconstruction"
    higher_leaks: bool = True
    smallest_image: int = 0

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score reconstructions (n, ...)."""
        check_reconstruction(guess, truth)
        n = len(guess)
        flat_guess = np.asarray(guess, np.float64).reshape(n, -1)
        flat_truth = np.asarray(truth, np.float64).reshape(n, -1)
        hits = np.empty(n)
        chance = np.empty(n)
        for block in np.array_split(rng.permutation(n), -(-n // self.candidates)):
            hits[block] = _hits(flat_guess[block], flat_truth[block])
            chance[block] = 1 / len(block)
        return mean_score(self.name, hits, rng, float(chance.mean()))


def _hits(guess: Doubles, truth: Doubles) -> Doubles:
    # |g|^2 is the same for every candidate, so it is left out of |g - t|^2.
    centre = truth.mean(axis=0)
    guess, truth = guess - centre, truth - centre
    lengths = (truth**2).sum(axis=1)
    distance = lengths - 2 * guess @ truth.T
    tolerance = 1e-9 * max(float(lengths.max()), 1e-12)
    nearest = distance <= distance.min(axis=1, keepdims=True) + tolerance
    return np.asarray(np.diag(nearest) / nearest.sum(axis=1))
