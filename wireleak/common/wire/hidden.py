"""The layout of a hidden picture in the low bits of float32 numbers, shared by malicious client code and attacker.

The picture, rows first, most significant bit of a pixel first, then 16 bits of CRC-32, into the numbers in order, the
highest of the low bits first.
"""

from __future__ import annotations

import hashlib
import math
import zlib

import numpy as np
import numpy.typing as npt

CHECK = 16
DEPTHS = (8, 4, 2, 1)
Words = npt.NDArray[np.uint32]
Bits = npt.NDArray[np.uint8]


def carriers(words: Words, skip_zeros: bool) -> npt.NDArray[np.bool_]:
    """Which numbers carry: all, or those in float32's normal range, which stay in it whatever is written."""
    return (words & 0x7F800000) != 0 if skip_zeros else np.ones(words.shape, bool)


def layout(shape: tuple[int, ...], room: int, depth: int | None) -> tuple[tuple[int, ...], int]:
    """Sides of the picture that fits into `room` bits beside its checksum, and bits a pixel; no sides if none does."""
    channels, *sides = shape
    pixels, free = math.prod(shape), room - CHECK
    depth = depth or next((depth for depth in DEPTHS if pixels * depth <= free), 1)
    fits: tuple[int, ...] = ()
    for longest in range(1, max(sides) + 1):
        scaled = tuple(max(1, side * longest // max(sides)) for side in sides)
        if channels * math.prod(scaled) * depth <= free:
            fits = scaled
    return fits, depth


def checksum(bits: Bits) -> Bits:
    """The low 16 bits of CRC-32 over the bits."""
    crc = zlib.crc32(np.packbits(bits).tobytes()) & 0xFFFF
    return np.unpackbits(np.frombuffer(crc.to_bytes(2), np.uint8))


def keystream(key: str, words: Words, count: int) -> Bits:
    """`count` bits from the key and from what is not written over: another stream for every message."""
    stream = hashlib.shake_256(key.encode() + words.astype("<u4").tobytes()).digest(-(-count // 8))
    return np.unpackbits(np.frombuffer(stream, np.uint8))[:count]
