"""Files as arrays of bytes, which Ray moves between machines without copies in Python's memory."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wireleak.common.files import replacing

Bytes = npt.NDArray[np.uint8]
# Content of a file, to see whether it changes: modification time in ns, and size.
State = tuple[int, int]


def read(path: Path) -> Bytes:
    """Return a file's bytes, mapped and not read."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return np.zeros(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def write(folder: Path, files: Mapping[str, Bytes]) -> None:
    """Write files, named by their paths in `folder`, in their order; each appears complete."""
    root = folder.resolve()
    for name, content in files.items():
        path = root / name
        if not path.resolve().is_relative_to(root):
            raise ValueError(f"{name}: a file outside its folder")
        with replacing(path) as file:
            file.write(content.data)


def states(folder: Path) -> dict[str, State]:
    """Return the state of every regular file below a folder, by its path in there."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            facts = path.stat()
            found[path.relative_to(folder).as_posix()] = (facts.st_mtime_ns, facts.st_size)
    return found


def written_since(folder: Path, before: Mapping[str, State]) -> dict[str, Bytes]:
    """Return files that are new or changed, the oldest first: the file that marks the end of a step is its last."""
    now = states(folder)
    changed = sorted((state, name) for name, state in now.items() if before.get(name) != state)
    return {name: read(folder / name) for _, name in changed}
