"""The layouts that malicious training code shares with its accomplice: pictures in a network's parameters or labels.

References
----------
Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017; csong27/ml-model-remember.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
State = Mapping[str, npt.NDArray[Any]]
_HEADER = 8  # bytes: length and CRC-32 of the compressed pictures
MARK = 32  # white values, then as many black ones, before correlated pixels: they give scale and sign


class LowBitsLayout(BaseModel):
    """The position of the hidden bits in float32 parameters."""

    model_config = ConfigDict(extra="forbid")
    bits: int = Field(16, ge=1, le=23, description="Mantissa bits of every parameter that are overwritten.")
    skip: int = Field(
        0, ge=0, le=22, description="Lowest bits, set to 0 and without payload; with 13 the payload survives float16."
    )
    compress: bool = Field(True, description="Compress the pictures: more of them fit, but one wrong bit destroys all.")

    def model_post_init(self, _: Any) -> None:
        """Check that bits and skip fit into the mantissa.

        Raises
        ------
        ValueError
            `bits` + `skip` is more than 23.
        """
        if self.bits + self.skip > 23:
            raise ValueError(
                f"bits + skip: {self.bits} + {self.skip} is more than the 23 bits of a mantissa; lower one of them"
            )


class CapacityLayout(BaseModel):
    """The size of pictures that labels carry."""

    model_config = ConfigDict(extra="forbid")
    side: int | None = Field(None, ge=1, description="Longest side of the reduced pictures; none keeps their size.")


def carriers(state: State, *, matrices: bool) -> list[str]:
    """Return the names of the float32 arrays that carry bits, sorted: all, or only those of two or more dimensions."""
    least = 2 if matrices else 0
    return sorted(name for name, value in state.items() if value.dtype == np.float32 and value.ndim >= least)


def flat(state: State, names: list[str]) -> Floats:
    """Return the values of these arrays as one vector (parameters,)."""
    return np.concatenate([np.asarray(state[name], np.float32).ravel() for name in names])


def unflat(values: Floats, state: State, names: list[str]) -> dict[str, npt.NDArray[Any]]:
    """Return the state with the values of these arrays replaced by `values` (parameters,)."""
    ends = np.cumsum([state[name].size for name in names])
    parts = np.split(values, ends[:-1])
    return dict(state) | {name: part.reshape(state[name].shape) for name, part in zip(names, parts, strict=True)}


def to_bytes(pictures: Floats) -> Bytes:
    """Return grey levels 0..255 (n, *shape) of pictures in [0, 1].

    Raises
    ------
    ValueError
        A value lies outside [0, 1], or there is no picture.
    """
    if not len(pictures) or pictures.min() < 0 or pictures.max() > 1:
        raise ValueError(
            "secret: only pictures with values from 0 to 1 can be hidden; choose a data set of such pictures"
        )
    return np.rint(255 * pictures).astype(np.uint8)


def payload(pixels: Bytes, compress: bool) -> Bytes:
    """Return the bits of grey levels. If compressed, a header precedes them: their length and CRC-32."""
    if not compress:
        return np.unpackbits(pixels.ravel())
    packed = zlib.compress(pixels.tobytes(), 9)
    header = len(packed).to_bytes(4) + zlib.crc32(packed).to_bytes(4)
    return np.unpackbits(np.frombuffer(header + packed, np.uint8))


def unpack(bits: Bytes, shape: tuple[int, ...], compress: bool) -> Bytes | None:
    """Recover grey levels of `shape` from the bits; None if the bits are incomplete or damaged."""
    size, data = math.prod(shape), np.packbits(bits[: len(bits) // 8 * 8])
    if not compress:
        return data[:size].reshape(shape) if len(data) >= size else None
    packed = data[_HEADER:][: int.from_bytes(data[:4].tobytes())].tobytes()
    if len(data) < _HEADER or zlib.crc32(packed) != int.from_bytes(data[4:_HEADER].tobytes()):
        return None
    try:
        whole = np.frombuffer(zlib.decompress(packed), np.uint8)
    except zlib.error:
        return None
    return whole.reshape(shape) if whole.size == size else None


def write_low_bits(values: Floats, bits: Bytes, layout: LowBitsLayout) -> Floats:
    """Write `bits` into the low mantissa bits of the parameters, highest first; other bits keep their value.

    Raises
    ------
    ValueError
        The bits do not fit.
    """
    if len(bits) > (room := len(values) * layout.bits):
        raise ValueError(f"strategy.options.bits: {len(bits)} bits do not fit into {room}; hide fewer pictures")
    words = np.pad(bits, (0, -len(bits) % layout.bits)).reshape(-1, layout.bits).astype(np.uint32)
    hidden = (words << np.arange(layout.bits - 1, -1, -1, dtype=np.uint32)).sum(1, dtype=np.uint32) << layout.skip
    numbers = np.ascontiguousarray(values, np.float32).view(np.uint32).copy()
    used, width = slice(len(hidden)), layout.bits + layout.skip
    numbers[used] = (numbers[used] >> width << width) | hidden
    return numbers.view(np.float32)


def read_low_bits(values: Floats, layout: LowBitsLayout) -> Bytes:
    """Read the low mantissa bits of all parameters (parameters * bits,)."""
    words = np.ascontiguousarray(values, np.float32).view(np.uint32) >> np.uint32(layout.skip)
    shifts = np.arange(layout.bits - 1, -1, -1, dtype=np.uint32)
    return ((words[:, None] >> shifts) & 1).astype(np.uint8).ravel()


def signs(pixels: Bytes, count: int) -> Floats:
    """Return the signs that `count` parameters should have: the grey levels' bits as -1 and 1, repeated."""
    bits = np.unpackbits(pixels.ravel())
    if len(bits) > count:
        raise ValueError(f"secret: {len(bits)} bits do not fit into the signs of {count} weights; hide fewer pictures")
    return np.resize(2 * bits.astype(np.float32) - 1, count)


def read_signs(values: Floats, shape: tuple[int, ...]) -> Bytes:
    """Recover grey levels of `shape` from signs; a bit that was written several times is read from the sum."""
    bits = repeats(values, 8 * math.prod(shape)) > 0
    return np.packbits(bits).reshape(shape)


def levels(pixels: Bytes, count: int) -> Floats:
    """Return the values that `count` weights should correlate with: a mark, then the grey levels, repeated."""
    mark = np.repeat(np.array([255, 0], np.float32), MARK)
    secret = np.concatenate([mark, pixels.ravel().astype(np.float32)])
    if len(secret) > count:
        raise ValueError(f"secret: {len(secret)} pixels do not fit into {count} weights; hide fewer pictures")
    return np.resize(secret, count)


def read_levels(values: Floats, shape: tuple[int, ...], *, extremes: bool = False) -> tuple[Floats, bool]:
    """Recover pictures of `shape` in [0, 1], and whether they were stored inverted.

    The mark gives white, black and the sign. With `extremes` it gives only the sign; white and black are the greatest
    and the least value, as in the authors' code.
    """
    means = repeats(values, 2 * MARK + math.prod(shape))
    white, black = float(means[:MARK].mean()), float(means[MARK : 2 * MARK].mean())
    inverted, pixels = white < black, means[2 * MARK :]
    if extremes:
        white, black = float(pixels.max()), float(pixels.min())
        white, black = (black, white) if inverted else (white, black)
    return np.clip((pixels - black) / (white - black or 1.0), 0, 1).reshape(shape).astype(np.float32), inverted


def repeats(values: Floats, period: int) -> Floats:
    """Return the mean (period,) of all values that repeat the same secret value."""
    if len(values) < period:
        raise ValueError(
            f"options.pictures: {period} values do not fit into {len(values)} weights; name fewer pictures"
        )
    place = np.arange(len(values)) % period
    total = np.bincount(place, values.astype(np.float64), period)
    return (total / np.bincount(place, minlength=period)).astype(np.float32)
