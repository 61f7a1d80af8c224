"""A map of features in two dimensions."""

from __future__ import annotations

import numpy as np

from wireleak.common.measures.statistics.tsne import tsne_map
from wireleak.lab.features.separation import Doubles, Rows, UnmeasuredError, standardised


def mapped(features: Rows) -> Doubles:
    """Return the t-SNE of standardised features.

    Parameters
    ----------
    features : float32 (n, width)

    Returns
    -------
    float64 (n, 2)
        As `tsne_map` returns them.

    Raises
    ------
    UnmeasuredError
        There are fewer than four examples, or the features have no two dimensions.
    """
    flat = standardised(features)
    if len(flat) < 4 or min(flat.shape) < 2:
        raise UnmeasuredError(f"features of shape {features.shape} are too few for a map")
    if np.linalg.matrix_rank(flat) < 2:
        raise UnmeasuredError("the features do not vary in two dimensions, so they have no map")
    return tsne_map(flat)
