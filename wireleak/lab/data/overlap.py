"""Find examples that different parties share, by content, and refuse them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.lab.data.dataset import DataError, Floats, Ints, Pixels


@dataclass(frozen=True)
class Overlap:
    """Examples that two sets share.

    Parameters
    ----------
    count : int
        Number of the second set's examples that are also in the first.
    first : int64
        Indices of the first set's examples that are also in the second.
    second : int64 (count,)
        Indices of the second set's examples that are also in the first.
    """

    count: int
    first: Ints
    second: Ints


_BLOCK = 64


def content_hashes(x: Floats | Pixels) -> npt.NDArray[np.bytes_]:
    """Return the SHA-256 of each example, bytes32 (n,).

    Images (n, channels, height, width), 8-bit or in [0, 1], are hashed as 8-bit pixels, so a copy that was saved to a
    file counts as the same image. All else is hashed as float32 bytes.
    """
    prefix = repr(x.shape[1:]).encode()
    # A block at a time, so that the copies stay small; a void type keeps trailing zero bytes, which "S32" would strip.
    blocks = (x[at : at + _BLOCK] for at in range(0, len(x), _BLOCK))
    digests = b"".join(hashlib.sha256(prefix + row.tobytes()).digest() for block in blocks for row in _content(block))
    return np.frombuffer(digests, dtype="V32")


def _content(x: Floats | Pixels) -> npt.NDArray[np.uint8]:
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x, np.uint8)
    if x.ndim == 4:
        scaled = np.clip(np.asarray(x, np.float32), 0, 1) * np.float32(255)
        return np.asarray(np.rint(scaled), np.uint8)
    # Adding zero turns -0.0 into 0.0: the same value, but other bytes.
    return (np.ascontiguousarray(x, np.float32) + np.float32(0)).view(np.uint8)


def find_overlap(first: Floats | Pixels, second: Floats | Pixels) -> Overlap:
    """Find the examples that two sets (n, ...) and (m, ...) share, by content."""
    a, b = content_hashes(first).tolist(), content_hashes(second).tolist()
    in_a, in_b = set(a), set(b)
    rows = np.array([i for i, digest in enumerate(a) if digest in in_b], np.int64)
    columns = np.array([i for i, digest in enumerate(b) if digest in in_a], np.int64)
    return Overlap(len(columns), rows, columns)


def first_occurrences(x: Floats | Pixels) -> Ints:
    """Return the indices, ascending, of the first occurrence of every distinct example."""
    seen: dict[bytes, int] = {}
    for index, digest in enumerate(content_hashes(x).tolist()):
        seen.setdefault(digest, index)
    return np.fromiter(seen.values(), np.int64, len(seen))


def refuse_overlap(parts: Mapping[str, Floats | Pixels]) -> None:
    """Raise an error if any two of these parts, given by name, share an example.

    Raises
    ------
    DataError
        Two parts share examples. The message names the parts, the number of shared examples and the fix.
    """
    hashes = {name: content_hashes(x).tolist() for name, x in parts.items()}
    names = list(hashes)
    for i, first in enumerate(names):
        held = set(hashes[first])
        for second in names[i + 1 :]:
            shared = sum(digest in held for digest in hashes[second])
            if shared:
                raise DataError(
                    f"data: {first} and {second} share {shared} identical examples; "
                    f"draw them with assign_roles, or remove the shared ones from {second}"
                )
