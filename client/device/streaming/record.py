"""Keep what was sent, for comparison with a capture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from client.device.inputs.item import Floats
from client.device.model.errors import DeviceError


class Record:
    """Activations and predictions, written as one .npz when the stream ends.

    Parameters
    ----------
    path : Path
        The file: `activation` (n, *activation_shape), `prediction` (n, classes), and `input`, their numbers (n,).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[tuple[int, Floats, Floats]] = []

    def add(self, first: int, activations: Floats, predictions: Floats) -> None:
        """Keep an answered message, whose first input has the number `first`."""
        self._rows += [(first + k, *pair) for k, pair in enumerate(zip(activations, predictions, strict=True))]

    def write(self) -> None:
        """Write the file, completely or not at all.

        Raises
        ------
        DeviceError
            It cannot be written.
        """
        numbers, activations, predictions = zip(*self._rows, strict=True) if self._rows else ((), (), ())
        scratch = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            with scratch.open("wb") as file:
                np.savez(
                    file,
                    allow_pickle=False,
                    input=np.array(numbers, np.int64),
                    activation=np.array(activations, np.float32),
                    prediction=np.array(predictions, np.float32),
                )
            scratch.replace(self._path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise DeviceError(f"--record: cannot write {self._path}: {error.strerror}") from error
