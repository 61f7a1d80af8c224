"""Overlap between what different parties hold, found by content and refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.lab.data.dataset import DataError, Floats, Ints


@dataclass(frozen=True)
class Overlap:
    """Examples that two sets share.

    Parameters
    ----------
    count : int
        How many examples of the second set stand in the first.
    first : int64
        Indices of the first set's examples that stand in the second.
    second : int64 (count,)
        Indices of the second set's examples that stand in the first.
    """

    count: int
    first: Ints
    second: Ints


def content_hashes(x: Floats) -> npt.NDArray[np.bytes_]:
    """SHA-256 of each example, bytes32 (n,).

    Images (n, channels, height, width) in [0, 1] are hashed as 8-bit pixels, so that a copy that went through a file
    is still the same image; anything else by its float32 bytes.
    """
    if x.ndim == 4:
        rows = np.rint(np.clip(x, 0, 1) * np.float32(255)).astype(np.uint8)
    else:
        # Adding zero turns -0.0 into 0.0, which is the same measurement in other bytes.
        rows = (np.ascontiguousarray(x, np.float32) + np.float32(0)).view(np.uint8)
    prefix = repr(x.shape[1:]).encode()
    # A void type keeps trailing zero bytes, which numpy's "S32" would strip.
    digests = b"".join(hashlib.sha256(prefix + row.tobytes()).digest() for row in rows)
    return np.frombuffer(digests, dtype="V32")


def find_overlap(first: Floats, second: Floats) -> Overlap:
    """Which examples of two sets (n, ...) and (m, ...) are the same by content."""
    a, b = content_hashes(first).tolist(), content_hashes(second).tolist()
    in_a, in_b = set(a), set(b)
    rows = np.array([i for i, digest in enumerate(a) if digest in in_b], np.int64)
    columns = np.array([i for i, digest in enumerate(b) if digest in in_a], np.int64)
    return Overlap(len(columns), rows, columns)


def first_occurrences(x: Floats) -> Ints:
    """Indices of the examples left when every repeated one is kept once, ascending."""
    seen: dict[bytes, int] = {}
    for index, digest in enumerate(content_hashes(x).tolist()):
        seen.setdefault(digest, index)
    return np.fromiter(seen.values(), np.int64, len(seen))


def refuse_overlap(parts: Mapping[str, Floats]) -> None:
    """Refuse parts, by name, of which any two share an example.

    Raises
    ------
    DataError
        Names the two parts, how many examples they share, and the fix.
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
                    f"give them disjoint examples (assign_roles does) or leave those out of {second}"
                )
