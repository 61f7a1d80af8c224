"""A map of features in two dimensions.

Source: van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008.
"""

from __future__ import annotations

import numpy as np

from wireleak.lab.features.separation import Doubles, Rows, UnmeasuredError, standardised

# The implementation's usual perplexity, which must be smaller than the number of examples.
_PRINCIPAL, _PERPLEXITY, _SEED = 30, 30.0, 0


def mapped(features: Rows) -> Doubles:
    """Return the t-SNE of standardised features, reduced to 30 principal components.

    Parameters
    ----------
    features : float32 (n, width)

    Returns
    -------
    float64 (n, 2)
        Places in 0..1; their distances mean little, their neighbours much.

    Raises
    ------
    UnmeasuredError
        There are fewer than four examples, or the features have no two dimensions.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    flat = standardised(features)
    if len(flat) < 4 or min(flat.shape) < 2:
        raise UnmeasuredError(f"features of shape {features.shape} are too few for a map")
    # Without any variance, the components' shares of it would be 0 / 0.
    if flat.any():
        flat = PCA(min(_PRINCIPAL, *flat.shape), random_state=_SEED).fit_transform(flat)
    if flat[:, 1].std() < 1e-9:
        raise UnmeasuredError("the features do not vary in two dimensions, so they have no map")
    perplexity = min(_PERPLEXITY, (len(flat) - 1) / 3)
    places = TSNE(2, perplexity=perplexity, init="pca", random_state=_SEED).fit_transform(flat).astype(np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    return np.asarray(np.round((places - low) / np.maximum(high - low, 1e-12), 3))
