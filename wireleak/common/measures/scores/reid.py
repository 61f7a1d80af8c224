"""Re-identification: whether a reconstruction is nearest to its own original among many.

A low error with re-identification at chance comes from the prior and is not leakage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.gpu import product
from wireleak.common.measures.scores.measure import GuessKind, Measure, check_reconstruction, register
from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.measures.statistics.score import Doubles, Floats, Score
from wireleak.common.memory import blocks


@register
@dataclass(frozen=True, kw_only=True)
class Reidentification(Measure):
    """Share of reconstructions whose nearest original by MSE is their own, among up to `candidates` (top 1).

    The originals are cut at random into blocks of equal size, at most `candidates`; within a block each is the
    others' distractor. Chance is 1 / block size, so it states the number of candidates. Identical originals share a
    hit. Distances are summed over blocks of values, so memory stays near 64 MiB at any size of the inputs.
    """

    candidates: int = 1000
    name: str = "reid"
    label: str = "Re-identified"
    meaning: str = "how often the rebuilt input is nearer to its own original than to any of the other victims' inputs"
    low: float = 0.0
    high: float = 1.0
    percent: bool = True
    margin: float = 0.05
    order: int = 40
    applies_to: GuessKind = "reconstruction"

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score reconstructions (n, ...)."""
        check_reconstruction(guess, truth)
        n = len(guess)
        flat_guess, flat_truth = np.asarray(guess).reshape(n, -1), np.asarray(truth).reshape(n, -1)
        hits = np.empty(n)
        chance = np.empty(n)
        for rows in np.array_split(rng.permutation(n), -(-n // self.candidates)):
            hits[rows] = _hits(flat_guess, flat_truth, rows)
            chance[rows] = 1 / len(rows)
        return mean_score(self.name, hits, rng, float(chance.mean()))


def _hits(guess: Floats, truth: npt.NDArray[np.generic], rows: npt.NDArray[np.int64]) -> Doubles:
    lengths, distance = np.zeros(len(rows)), np.zeros((len(rows), len(rows)))
    for part in blocks(truth.shape[1], 32 * len(rows)):
        one, other = (np.asarray(values[:, part][rows], np.float64) for values in (guess, truth))
        centre = other.mean(axis=0)
        one, other = one - centre, other - centre
        # |g|^2 is the same for every candidate, so it is left out of |g - t|^2.
        lengths += (other**2).sum(axis=1)
        distance -= 2 * product(one, other.T)
    distance += lengths
    tolerance = 1e-9 * max(float(lengths.max()), 1e-12)
    nearest = distance <= distance.min(axis=1, keepdims=True) + tolerance
    return np.asarray(np.diag(nearest) / nearest.sum(axis=1))
