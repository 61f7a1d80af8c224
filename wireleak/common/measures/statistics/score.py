"""A measure's value with its interval."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """A measure's value with a 95 % interval.

    Parameters
    ----------
    measure : str
        Its registry name.
    value, low, high : float
        The value and its interval: bootstrap over examples, or Student's t over seeds (`combine_seeds`).
        NaN where it is undefined (an AUC of labels that are all alike).
    n : int
        Examples scored.
    chance : float, optional
        Score of a guess without any observation, if it is known.
    draws : float64 (resamples,), optional
        Resampled values, so that scores of other guesses and seeds can be paired with this one.
    permutations : int
        Number of permutations whose scores `value` is the mean of; 0 for all but that baseline.
    """

    measure: str
    value: float
    low: float
    high: float
    n: int
    chance: float | None = None
    draws: Doubles | None = field(default=None, compare=False, repr=False)
    permutations: int = 0
