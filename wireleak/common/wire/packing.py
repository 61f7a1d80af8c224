"""Many named arrays as one block of bytes, with their layout as JSON: `[[record, name, dtype, shape], …]`.

Arrays follow one another in C order. Each starts at a multiple of 16 bytes, so that a reader needs no copy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

# The fields of a record that holds packed arrays.
DATA, LAYOUT = "packed", "layout"
# An array's name: that of its record, and its own.
Name = tuple[str, str]
_ALIGNMENT = 16
_MAX_ARRAYS = 1 << 16
_MAX_RANK = 32


class PackingError(ValueError):
    """Bytes and layout do not fit together."""


def pack(arrays: Mapping[Name, npt.NDArray[Any]]) -> tuple[bytes, str]:
    """Return the arrays as one block of bytes, and its layout.

    Raises
    ------
    PackingError
        An array holds Python objects or records.
    """
    layout, parts, end = [], [], 0
    for (record, name), values in arrays.items():
        if values.dtype.kind not in "biufc":
            raise PackingError(f"{name}: {values.dtype} cannot be packed; use numbers")
        layout.append([record, name, values.dtype.str, values.shape])
        parts += [bytes(-end % _ALIGNMENT), values.tobytes()]
        end += len(parts[-2]) + len(parts[-1])
    return b"".join(parts), json.dumps(layout)


def unpack(data: bytes | memoryview, layout: str) -> dict[Name, npt.NDArray[Any]]:
    """Return read-only views of the arrays in a block of bytes, in the order of the layout.

    Raises
    ------
    PackingError
        The layout is damaged, or it does not cover the bytes exactly.
    """
    try:
        described = json.loads(layout)
        if not isinstance(described, list) or len(described) > _MAX_ARRAYS:
            raise PackingError("the layout is no list of arrays")
        arrays: dict[Name, npt.NDArray[Any]] = {}
        block, end = memoryview(data), 0
        for record, name, kind, shape in described:
            start = end + -end % _ALIGNMENT
            dtype = _dtype(kind)
            end = start + dtype.itemsize * _size(shape)
            if end > len(data) or (record, name) in arrays or not isinstance(record + name, str):
                raise PackingError(f"array {len(arrays)} of the layout is longer than the bytes, or its name is taken")
            # numpy refuses to read an empty buffer.
            values = np.frombuffer(block[start:end], dtype) if end > start else np.empty(0, dtype)
            arrays[record, name] = values.reshape(shape)
            arrays[record, name].flags.writeable = False
    except PackingError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise PackingError("the layout is damaged") from error
    if end != len(data):
        raise PackingError(f"the layout describes {end} bytes, but there are {len(data)}")
    return arrays


def _dtype(kind: object) -> np.dtype[Any]:
    # Only "<f4" and the like: numpy would read a longer string as a record.
    if not isinstance(kind, str) or len(kind) > 4:
        raise PackingError("the layout names an unknown dtype")
    dtype = np.dtype(kind)
    if dtype.kind not in "biufc":
        raise PackingError(f"the layout names dtype {kind!r}, which is no number")
    return dtype


def _size(shape: object) -> int:
    if not isinstance(shape, list) or len(shape) > _MAX_RANK or any(type(n) is not int or n < 0 for n in shape):
        raise PackingError("the layout holds a wrong shape")
    return math.prod(shape)
