"""Labels of a batch, read from the gradient of the last layer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.floating]


def labels_of(weights: Matrix, biases: Matrix | None, count: int) -> Ints:
    """Return a batch's labels, in rising order, from its gradient in the last linear layer under cross-entropy.

    A class's row of the weights' gradient is (probability - truth) times the features. If no feature is negative, only
    the true class's row has a negative sum. One example: take the least sum (iDLG's rule), which is always right then,
    but unreliable if features change sign, as tanh's do. Several examples: take every class with a negative sum once,
    then repeatedly the least, each time subtracting the impact of one example (LLG).

    Parameters
    ----------
    weights : array (classes, features)
    biases : array (classes,) or None
        If given, used instead of the weights' sums: they are probability - truth itself, for any signs of features.
    count : int
        Examples in the batch.

    Returns
    -------
    array (count,)

    References
    ----------
    Zhao, Mopuri, Bilen, "iDLG: Improved Deep Leakage from Gradients", 2020.
    Wainakh et al., "User-Level Label Leakage from Gradients in Federated Learning", PETS 2022 (LLG, algorithm 1).
    """
    sums = np.asarray(weights, np.float64).sum(1) if biases is None else np.asarray(biases, np.float64).copy()
    impact = sums[sums < 0].sum() * (1 + 1 / len(sums)) / count
    found: list[int] = [] if count == 1 else [int(label) for label in np.flatnonzero(sums < 0)][:count]
    sums[found] -= impact
    while len(found) < count:
        found.append(int(sums.argmin()))
        sums[found[-1]] -= impact
    return np.sort(np.array(found, np.int64))
