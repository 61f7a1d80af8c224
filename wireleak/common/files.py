"""Write files completely or not at all, and read a process's config."""

from __future__ import annotations

import filecmp
import json
import os
import secrets
import shutil
import stat
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

# Who may read and write a file that is no secret: the user's umask takes rights away.
_EVERYBODY, OWNER = 0o666, 0o600
_SHARING = threading.Lock()


@contextmanager
def replacing(path: Path, mode: int = _EVERYBODY, *, shared: bool = False) -> Iterator[BinaryIO]:
    """Open a scratch file that replaces `path` once it is written, and is removed if writing fails.

    The umask takes rights from `mode`; `OWNER` is for secrets. With `shared`, a file of the same content stays: a jail
    grants the file that lay there when its process began, and none that takes its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            yield file
        with _SHARING if shared else nullcontext():
            if shared and path.is_file() and filecmp.cmp(scratch, path, shallow=False):
                scratch.unlink()
            else:
                scratch.replace(path)
    except BaseException as error:
        scratch.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            # A full disk names no file, and nobody knows the scratch file.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_atomically(path: Path, content: bytes, mode: int = _EVERYBODY, *, shared: bool = False) -> Path:
    """Write `content` to `path` and return the path; `mode` and `shared` are those of `replacing`."""
    with replacing(path, mode, shared=shared) as file:
        file.write(content)
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write JSON and return the path."""
    return write_atomically(path, (json.dumps(value, indent=1, default=str) + "\n").encode())


def named_config() -> Any:
    """Return the JSON of the file that this process's command line names after `--config`."""
    return json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())


def write_arrays(
    path: Path, arrays: Mapping[str, npt.NDArray[np.generic]], *, compress: bool = False, shared: bool = False
) -> Path:
    """Write an .npz and return the path; `shared` is that of `replacing`."""
    # The lowest level of compression: higher ones take longer and hardly save more of pictures.
    method, level = (zipfile.ZIP_DEFLATED, 1) if compress else (zipfile.ZIP_STORED, None)
    with replacing(path, shared=shared) as file, zipfile.ZipFile(file, "w", method, compresslevel=level) as archive:
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


def files_below(folder: Path) -> Iterator[tuple[int, float]]:
    """Yield size on disk and time of last change of each file; one with several names counts once, as with `du`."""
    known: set[tuple[int, int]] = set()
    for child in folder.rglob("*"):
        try:
            facts = child.lstat()
        except OSError:  # it was removed meanwhile
            continue
        if not stat.S_ISDIR(facts.st_mode) and (facts.st_dev, facts.st_ino) not in known:
            known.add((facts.st_dev, facts.st_ino))
            # Blocks, because captures may be sparse or compressed by the file system.
            yield facts.st_blocks * 512, facts.st_mtime


def import_root(file: Path) -> Path:
    """Return the folder from which a file is imported: above the package that it is in, or its own."""
    root = file.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    return root
