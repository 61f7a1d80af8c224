"""Tensors to messages and back, bounds checked before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.wire import split_head_pb2 as pb

VERSION = "v1"

Array = npt.NDArray[np.generic]

# Little-endian whatever the host: a tensor that a big-endian device sends is the same bytes.
_DTYPES: dict[int, np.dtype[np.generic]] = {
    pb.DTYPE_FLOAT32: np.dtype("<f4"),
    pb.DTYPE_FLOAT16: np.dtype("<f2"),
    pb.DTYPE_INT64: np.dtype("<i8"),
    pb.DTYPE_UINT8: np.dtype("u1"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


class WireError(ValueError):
    """A message breaks the contract.

    Parameters
    ----------
    field : str
        The message's field, dotted, e.g. ``"activation.shape"``.
    reason : str
        What is wrong with it and what would be right.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True)
class Bounds:
    """The most that one tensor on the wire may be."""

    max_rank: int = 6
    max_elements: int = 1 << 24
    max_bytes: int = 1 << 26


DEFAULT_BOUNDS = Bounds()


def encode_tensor(array: npt.ArrayLike) -> pb.Tensor:
    """Encode an array of float32, float16, int64 or uint8.

    Raises
    ------
    WireError
        The array's dtype cannot cross the wire.
    """
    values = np.asarray(array)
    dtype = values.dtype.newbyteorder("<")
    if dtype not in _CODES:
        raise WireError("dtype", f"{values.dtype} cannot cross the wire; use one of {_names()}")
    data = np.ascontiguousarray(values, dtype=dtype).tobytes()
    return pb.Tensor(dtype=_CODES[dtype], shape=values.shape, data=data)  # type: ignore[arg-type]


def decode_tensor(
    tensor: pb.Tensor,
    field: str = "tensor",
    *,
    shape: Sequence[int | None] | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
    finite: bool = True,
    content: memoryview | None = None,
) -> Array:
    """Decode a message into a read-only array that shares the message's bytes.

    Parameters
    ----------
    tensor : Tensor
        The message.
    field : str
        Its name in errors.
    shape : sequence of int or None, optional
        The shape it must have; None stands for any length.
    bounds : Bounds
        Checked before anything is allocated.
    finite : bool
        Whether NaN and infinities are refused.
    content : memoryview, optional
        The message's data, read-only, where they are kept apart from it.

    Raises
    ------
    WireError
        The first rule that the message breaks.
    """
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise WireError(f"{field}.dtype", f"code {tensor.dtype} is unknown; use one of {_names()}")
    dims = tuple(tensor.shape)
    if len(dims) > bounds.max_rank:
        raise WireError(f"{field}.shape", f"rank {len(dims)} is over {bounds.max_rank}")
    elements = math.prod(dims)
    # An empty tensor may not have a huge dimension either: no array can have that shape.
    if max(elements, *dims, 0) > bounds.max_elements:
        raise WireError(f"{field}.shape", f"{max(elements, *dims, 0)} elements are over {bounds.max_elements}")
    # Read once: each access copies the bytes.
    data = tensor.data if content is None else content
    if len(data) > bounds.max_bytes:
        raise WireError(f"{field}.data", f"{len(data)} bytes are over {bounds.max_bytes}")
    if len(data) != elements * dtype.itemsize:
        raise WireError(
            f"{field}.data",
            f"{len(data)} bytes where shape {list(dims)} of {dtype} needs {elements * dtype.itemsize}",
        )
    if shape is not None and not _fits(dims, shape):
        wanted = ["any" if n is None else n for n in shape]
        raise WireError(f"{field}.shape", f"{list(dims)} where {wanted} is expected")
    values = np.frombuffer(data, dtype=dtype).reshape(dims)
    if finite and dtype.kind == "f" and not np.isfinite(values).all():
        raise WireError(f"{field}.data", "holds NaN or infinite values")
    return values


def decode_labels(tensor: pb.Tensor, batch: int, classes: int, field: str = "label") -> npt.NDArray[np.int64]:
    """Decode class indices of shape (batch,) in [0, classes).

    Raises
    ------
    WireError
        Wrong dtype, shape or range.
    """
    values = decode_tensor(tensor, field, shape=(batch,))
    if values.dtype != np.dtype("<i8"):
        raise WireError(f"{field}.dtype", f"{values.dtype} where int64 is expected")
    labels = values.astype(np.int64, copy=False)
    if batch and (labels.min() < 0 or labels.max() >= classes):
        raise WireError(f"{field}.data", f"labels {labels.min()}..{labels.max()} outside 0..{classes - 1}")
    return labels


def _fits(dims: tuple[int, ...], shape: Sequence[int | None]) -> bool:
    return len(dims) == len(shape) and all(want is None or have == want for have, want in zip(dims, shape, strict=True))


def _names() -> str:
    return ", ".join(dtype.name for dtype in _DTYPES.values())
