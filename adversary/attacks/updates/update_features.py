"""The features that represent an update, as in the code of Melis et al."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array

_LARGEST = 5000
# Running statistics are sent as weights are, but no gradient ever changed them.
_LEFT_OUT = ("bias", "running_")


def features(gradient: Mapping[str, npt.NDArray[Any]], leave_out: tuple[str, ...] = ()) -> Array:
    """Return an update's features: absolute values, the strongest of each kernel or long row, scaled to length 1.

    Biases are dropped. A convolution keeps the maximum over each kernel's positions, and is left out if it has more
    than 5,000 kernels; a matrix of more than 5,000 entries keeps the maximum over its last axis. The length of 1 makes
    the row the same for a gradient and for the step that it caused, whatever the learning rate.

    Parameters
    ----------
    gradient : mapping of str to array
        By the layer's name, e.g. "0.0.weight": a gradient, or the difference of weights.
    leave_out : tuple of str
        Beginnings of the names of layers that are not read.

    Returns
    -------
    numpy.ndarray
        Float32 (d,): layers in the mapping's order. Zeros where the update is zero or not finite.

    References
    ----------
    Melis, Song, De Cristofaro, Shmatikov, "Exploiting Unintended Feature Leakage in Collaborative Learning", S&P 2019;
    csong27/property-inference-collaborative-ml. Their dense matrices are (inputs, outputs), torch's (outputs, inputs):
    the maximum that they take over a unit's outputs is here over its inputs.
    """
    pieces = [_strongest(name, value) for name, value in gradient.items() if not name.startswith(leave_out)]
    row = np.abs(np.concatenate([np.zeros(0), *pieces]))
    length = np.linalg.norm(row)
    return np.asarray(row / length if np.isfinite(length) and length > 0 else np.zeros_like(row), np.float32)


def check_left_out(leave_out: tuple[str, ...], layers: Collection[str]) -> None:
    """Check that each beginning of a name fits a layer, and that a layer is left to read.

    Raises
    ------
    ValueError
        One line that names the option.
    """
    for beginning in leave_out:
        if not any(name.startswith(beginning) for name in layers):
            raise ValueError(f"options.leave_out: no layer begins with {beginning!r}; layers are {', '.join(layers)}")
    if all(name.startswith(leave_out) for name in layers):
        raise ValueError("options.leave_out: leaves no layer to read; name fewer layers")


def _strongest(name: str, value: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if name.rpartition(".")[2].startswith(_LEFT_OUT) or value.dtype.kind != "f":
        return np.zeros(0)
    size = np.abs(value.astype(np.float64))
    if size.ndim > 2:
        outputs, inputs = size.shape[:2]
        return np.zeros(0) if outputs * inputs > _LARGEST else size.reshape(outputs * inputs, -1).max(1)
    if size.ndim == 2 and size.size > _LARGEST:
        return np.asarray(size.max(-1))
    return size.ravel()
