"""Memory: blocks of bounded size, and a check of a computation's needs against the memory that is free."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

LIMIT = "WIRELEAK_MEMORY"
# One temporary block: far smaller than the arrays that a caller holds, and large enough for full speed.
BLOCK_BYTES = 64 * 2**20
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class NotEnoughMemoryError(MemoryError):
    """A computation needs more memory than there is; the message is one line with both."""


def check_memory(what: str, needs: int) -> None:
    """Check that `needs` more bytes are free.

    Raises
    ------
    NotEnoughMemoryError
        They are not; the message begins with `what`.
    """
    free = free_memory()
    if needs > free:
        limited = f"the limit {LIMIT} leaves" if os.environ.get(LIMIT) else "there is"
        raise NotEnoughMemoryError(
            f"{what} needs {written(needs)} of memory and {limited} {written(free)}; "
            "use fewer examples, smaller inputs or a later cut"
        )


def out_of_memory(error: BaseException) -> str | None:
    """Return the one line of an error that says that memory is short; None for any other error."""
    line = " ".join(str(error).split())
    if isinstance(error, NotEnoughMemoryError):
        return line
    # torch reports a failed allocation on the CPU as a RuntimeError.
    if isinstance(error, MemoryError) or "out of memory" in line or "can't allocate memory" in line:
        return f"not enough memory: {line or 'an allocation failed'}"
    return None


def free_memory() -> int:
    """Return the bytes that this process may still take: on the machine, in its control group, and under `LIMIT`.

    Raises
    ------
    ValueError
        The limit in the environment is no size.
    """
    import psutil

    free = [int(psutil.virtual_memory().available), *_in_group(Path("/sys/fs/cgroup"))]
    if limit := os.environ.get(LIMIT):
        free.append(parse_size(limit, LIMIT) - int(psutil.Process().memory_info().rss))
    return max(0, min(free))


def parse_size(text: str, field: str) -> int:
    """Return the bytes of a size such as "4G", "4GiB" or "500M".

    Raises
    ------
    ValueError
        It is no size; the message begins with `field`.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"{field}: {text!r} is no size; give a number and a unit, such as 4G or 500M")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def written(number: int) -> str:
    """Write a number of bytes as GiB or MiB."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


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


def _in_group(folder: Path) -> list[int]:
    """Return what a control group (version 2) leaves, not counting pages that the kernel may drop; [] if no limit."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return []
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        used = int((folder / "memory.current").read_text()) - int(stat.get("inactive_file", 0))
    except (OSError, ValueError):
        return []
    return [int(limit) - used]
