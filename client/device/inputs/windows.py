"""Windows of sensor readings: rows of numbers that commas separate, a row a sample and a column a channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from client.device.inputs.item import Item, checked
from client.device.model.errors import DeviceError


def cut(name: str, lines: Iterable[str], shape: tuple[int, ...], say: Callable[[str], None]) -> Iterator[Item]:
    """Yield windows (channels, length), each from the next `length` rows; a first row of words is a header.

    Parameters
    ----------
    name : str
    lines : iterable of str
    shape : tuple of int
        (channels, length).
    say : callable
        Takes a line about rows at the end that fill no window.

    Raises
    ------
    DeviceError
        A row does not hold one number for each channel.
    """
    channels, length = shape
    rows: list[list[float]] = []
    window = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = [float(part) for part in line.split(",")]
        except ValueError:
            if number == 1:
                continue
            raise DeviceError(f"--input: row {number} of {name} is not numbers: {line.strip()[:40]!r}") from None
        if len(row) != channels:
            raise DeviceError(f"--input: row {number} of {name} has {len(row)} numbers, the encoder takes {channels}")
        rows.append(row)
        if len(rows) == length:
            yield checked(f"{name}[{window}]", np.array(rows, np.float32).T, shape)
            window += 1
            rows = []
    if rows:
        say(f"the end of {name} was not sent: a window needs {length} rows, not {len(rows)}")
