"""One input, and the checks that every input passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.device.model.errors import DeviceError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Item:
    """One input.

    Parameters
    ----------
    name : str
        Its name, such as a file's.
    values : float32 (*input_shape)
    """

    name: str
    values: Floats


def checked(name: str, values: npt.NDArray[np.generic], shape: tuple[int, ...]) -> Item:
    """Return an input of the encoder's shape.

    Raises
    ------
    DeviceError
        It has another shape, is not made of numbers, or some are not finite.
    """
    if tuple(values.shape) != shape:
        raise DeviceError(f"--input: {name} has shape {list(values.shape)}, the encoder takes {list(shape)}")
    if values.dtype.kind not in "fiub":
        raise DeviceError(f"--input: {name} holds {values.dtype}, not numbers")
    numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise DeviceError(f"--input: {name} holds NaN or infinite values; remove it")
    return Item(name, numbers)
