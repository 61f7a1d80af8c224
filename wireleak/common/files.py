"""Write files completely or not at all, and read a process's config."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

# Who may read and write a file that is no secret: the user's umask takes rights away.
_EVERYBODY, OWNER = 0o666, 0o600


@contextmanager
def replacing(path: Path, mode: int = _EVERYBODY) -> Iterator[BinaryIO]:
    """Open a scratch file that replaces `path` once it is written, and is removed if writing fails.

    The umask takes rights from `mode`; `OWNER` is for secrets.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            yield file
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes, mode: int = _EVERYBODY) -> Path:
    """Write `content` to `path` and return the path; `mode` is that of `replacing`."""
    with replacing(path, mode) as file:
        file.write(content)
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write JSON and return the path."""
    return write_atomically(path, (json.dumps(value, indent=1, default=str) + "\n").encode())


def named_config() -> Any:
    """Return the JSON of the file that this process's command line names after `--config`."""
    return json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[np.generic]], *, compress: bool = False) -> Path:
    """Write an .npz and return the path."""
    # The lowest level of compression: higher ones take longer and hardly save more of pictures.
    method, level = (zipfile.ZIP_DEFLATED, 1) if compress else (zipfile.ZIP_STORED, None)
    with replacing(path) as file, zipfile.ZipFile(file, "w", method, compresslevel=level) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
    return path


def link_or_copy(source: Path, path: Path) -> Path:
    """Give a file a second name, or copy it where the file system has no hard links; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        path.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, path)
    return path


def import_root(file: Path) -> Path:
    """Return the folder from which a file is imported: above the package that it is in, or its own."""
    root = file.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    return root
