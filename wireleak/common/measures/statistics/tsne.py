"""A map of rows in two dimensions, in which neighbours stay neighbours.

Source: van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.statistics.score import Doubles

# The usual perplexity, which must be smaller than the number of rows.
_PRINCIPAL, _PERPLEXITY = 30, 30.0


def tsne_map(rows: npt.NDArray[np.floating], seed: int = 0) -> Doubles:
    """Return the t-SNE of the rows' first 30 principal components.

    Parameters
    ----------
    rows : float (n, width)
        At least four.
    seed : int

    Returns
    -------
    float64 (n, 2)
        Places in 0..1; their distances mean little, their neighbours much.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n, width = rows.shape
    flat = np.asarray(rows, np.float64)
    # Without any variance, the components' shares of it would be 0 / 0.
    if np.ptp(flat, axis=0).any():
        flat = PCA(min(_PRINCIPAL, n, width), random_state=seed).fit_transform(flat)
    # Principal components are a stable start; rows of one number have only one, and equal rows must differ a little.
    start = np.zeros((n, 2))
    start[:, : min(2, flat.shape[1])] = flat[:, :2]
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)
    start += np.random.default_rng(seed).normal(0, 1e-6, start.shape)
    places = TSNE(2, perplexity=min(_PERPLEXITY, (n - 1) / 3), init=start, random_state=seed).fit_transform(flat)
    low, high = places.min(axis=0), places.max(axis=0)
    return np.asarray(np.round((places - low) / np.maximum(high - low, 1e-12), 3), np.float64)
