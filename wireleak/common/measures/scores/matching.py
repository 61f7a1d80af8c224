"""Match reconstructions with inputs, where an attack cannot know their order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.statistics.score import Floats


def match(guess: Floats, truth: Floats) -> npt.NDArray[np.int64]:
    """Order the guesses so that the sum of their squared errors is least (the Hungarian rule).

    Parameters
    ----------
    guess, truth : arrays (n, ...)
        Of one shape.

    Returns
    -------
    int64 (n,)
        ``guess[order]`` is matched with `truth`, row by row.

    References
    ----------
    Kuhn, "The Hungarian method for the assignment problem", 1955; used so by Geiping et al. 2020.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, which no report should pay for

    if guess.shape != truth.shape:
        raise ValueError(f"guess {guess.shape} and truth {truth.shape} differ in shape")
    one, other = (np.asarray(rows, np.float64).reshape(len(rows), -1) for rows in (guess, truth))
    cost = ((other[:, None] - one[None]) ** 2).sum(2)
    return np.asarray(linear_sum_assignment(cost)[1], np.int64)
