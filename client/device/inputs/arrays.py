"""Inputs that are arrays already: .npy, and .npz with the array "x"."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from client.device.inputs.item import Item, checked
from client.device.model.errors import DeviceError, one_line

SUFFIXES = (".npy", ".npz")


def from_file(path: Path, shape: tuple[int, ...]) -> Iterator[Item]:
    """Yield the inputs of a .npy or .npz: one of the encoder's shape, or (n, *shape)."""
    try:
        with path.open("rb") as file:
            held = np.load(file, allow_pickle=False)
            if isinstance(held, np.lib.npyio.NpzFile):
                if "x" not in held:
                    raise DeviceError(f'--input: {path} holds no array "x", only {", ".join(held) or "nothing"}')
                held = held["x"]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DeviceError(f"--input: cannot read {path}: {one_line(error)}") from error
    yield from _rows(str(path), held, shape)


def from_stream(file: BinaryIO, shape: tuple[int, ...]) -> Iterator[Item]:
    """Yield the inputs of arrays in .npy format, one behind the other, as they arrive."""
    start = 0
    while head := file.read(1):
        try:
            held = np.lib.format.read_array(_Reader(head, file), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DeviceError(f"--input: standard input is no array in .npy format: {one_line(error)}") from error
        for item in _rows("-", held, shape, start):
            start += 1
            yield item


class _Reader:
    """A file that only reads: numpy would seek in a real one, and a pipe cannot."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head = head
        self._file = file

    def read(self, size: int = -1) -> bytes:
        head, self._head = self._head, b""
        return head + self._file.read(size - len(head) if size >= 0 else size)


def _rows(name: str, held: npt.NDArray[np.generic], shape: tuple[int, ...], start: int = 0) -> Iterator[Item]:
    if held.shape == shape:
        held = held[None]
    if held.shape[1:] != shape:
        raise DeviceError(
            f"--input: {name} holds shape {list(held.shape)}, the encoder takes {list(shape)}, one or many"
        )
    for row, values in enumerate(held, start):
        yield checked(f"{name}[{row}]", values, shape)
