"""Work on large arrays in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

# Memory of one temporary block: far below any array that a caller holds anyway, and large enough for full speed.
BLOCK_BYTES = 64 * 2**20


def blocks(length: int, item_bytes: int) -> Iterator[slice]:
    """Yield slices that cover `length` items, each of at most `BLOCK_BYTES`, or of one item.

    Parameters
    ----------
    length : int
        Items along the axis that is cut.
    item_bytes : int
        Temporary memory that one item needs.
    """
    step = max(1, BLOCK_BYTES // max(1, item_bytes))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
