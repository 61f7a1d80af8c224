"""Inputs out of the gradient of one fully connected layer, by division.

For z = W x + b the gradients of one example are dL/dW_i = (dL/dz_i) x and dL/db_i = dL/dz_i: their ratio is x, at any
scale or learning rate. Over several examples the ratio is their weighted mean, unless a layer was made to separate
them: rows of `imprint_layer` differ only in their threshold, so the difference of two neighbours' gradients contains
only the examples that fall between them.

References
----------
Phong et al., "Privacy-Preserving Deep Learning via Additively Homomorphic Encryption", TIFS 2018 (the ratio).
Fowl, Geiping, Czaja, Goldblum, Goldstein, "Robbing the Fed", ICLR 2022 (the imprint).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.floating]


def input_of(weight_gradient: Matrix, bias_gradient: Matrix) -> Doubles | None:
    """Return the input behind these gradients: exact for one example, a weighted mean for several.

    Parameters
    ----------
    weight_gradient : array (outputs, inputs)
        dL/dW, or any multiple of it, such as a weight update.
    bias_gradient : array (outputs,)
        dL/db at the same scale.

    Returns
    -------
    array (inputs,) or None
        From the unit with the largest bias gradient, where rounding hurts least; None where all of them are zero.
    """
    weights, biases = _checked(weight_gradient, bias_gradient)
    unit = int(np.abs(biases).argmax())
    return None if biases[unit] == 0 else np.asarray(weights[unit] / biases[unit])


def imprint_layer(public: Matrix, bins: int) -> tuple[Doubles, Doubles]:
    """Build the fully connected layer, followed by ReLU, that a malicious server puts first.

    Every row takes the mean of the input's values. The biases are minus that mean's quantiles on public inputs, so
    each of `bins` bins receives the same number.

    Parameters
    ----------
    public : array (n, inputs)
        Inputs like the victims'.
    bins : int
        Units.

    Returns
    -------
    weight : array (bins, inputs)
    bias : array (bins,)
        Falling: row 0 has the lowest threshold.
    """
    if bins < 2 or public.ndim != 2:
        raise ValueError(
            f"imprint: {bins} bins for public inputs of shape {public.shape}; give 2 bins or more and shape (n, d)"
        )
    weight = np.full((bins, public.shape[1]), 1 / public.shape[1])
    return weight, -np.quantile(public.mean(axis=1), np.arange(bins) / bins)


def inputs_of_bins(
    weight_gradient: Matrix, bias_gradient: Matrix, tolerance: float = 1e-6
) -> tuple[Doubles, npt.NDArray[np.int64]]:
    """Return the inputs that fell into an imprint layer's bins.

    Parameters
    ----------
    weight_gradient : array (bins, inputs)
        Of the layer, summed over a batch or over clients; rows in the order of rising thresholds.
    bias_gradient : array (bins,)
        At the same scale.
    tolerance : float
        A bin counts as empty if its bias gradient is below this share of the largest: then it is only rounding.

    Returns
    -------
    found : array (k, inputs)
        One row per bin that is not empty: the exact input for a bin with one example, the weighted mean for a bin with
        several. The gradient does not show which of the two it is.
    bins : array (k,)
        Numbers of these bins, rising.
    """
    weights, biases = _checked(weight_gradient, bias_gradient)
    # Above the last threshold there is no neighbour to subtract.
    weights = weights - np.vstack([weights[1:], np.zeros_like(weights[:1])])
    biases = biases - np.append(biases[1:], 0.0)
    bins = np.flatnonzero(np.abs(biases) > tolerance * max(float(np.abs(biases).max()), 1e-300))
    return np.asarray(weights[bins] / biases[bins, None]), bins.astype(np.int64)


def _checked(weight_gradient: Matrix, bias_gradient: Matrix) -> tuple[Any, Any]:
    weights, biases = np.asarray(weight_gradient, np.float64), np.asarray(bias_gradient, np.float64)
    if weights.ndim != 2 or biases.shape != weights.shape[:1] or not len(biases):
        raise ValueError(
            f"gradient: weights {weights.shape} and biases {biases.shape} do not belong to one linear layer"
        )
    if not (np.isfinite(weights).all() and np.isfinite(biases).all()):
        raise ValueError("gradient: a value is not finite")
    return weights, biases
