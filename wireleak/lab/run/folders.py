"""Make the folder of a new run, and keep others from it while a run writes it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from wireleak.common.files import write_json
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.study.schema import StudyError


@contextmanager
def new_folder(out: Path, name: str) -> Iterator[Path]:
    """Make `<out>/<name>-<time>`, and give its absolute path; if its first files cannot be written, it goes again.

    Raises
    ------
    StudyError
        It exists, or cannot be made.
    """
    folder = (out / f"{name}-{datetime.now():%Y%m%d-%H%M%S}").resolve()
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise StudyError(f"--out: {folder} exists; wait a second or choose another folder") from None
    except OSError as error:
        raise StudyError(f"--out: cannot create {folder}: {error.strerror}") from error
    try:
        yield folder
    except BaseException:
        # On a full disk a folder can still be made; nobody could go on with it.
        shutil.rmtree(folder, ignore_errors=True)
        raise


def point_latest(folder: Path, study: str) -> None:
    """Point the link `<study>-latest`, next to the run's folder, to this run."""
    link = folder.with_name(f"{study}-latest")
    if link.is_symlink() or not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Refuse a folder that another process writes, and keep it from others; the kernel ends this with the process.

    Raises
    ------
    StudyError
        Another process writes it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(
                f"--resume: {folder} is still being written by another command; wait for its end, or stop it"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)


@contextmanager
def timed(folder: Path, began: float) -> Iterator[float]:
    """Yield when a run would have begun without interruptions, and write its time when the block ends.

    Parameters
    ----------
    folder : Path
        The run's.
    began : float
        When this part of the run began, by `time.monotonic`. A part that was killed counts for nothing.
    """
    path = RunFolder(folder).seconds
    if path.is_file():
        began -= json.loads(path.read_text())
    try:
        yield began
    finally:
        with suppress(OSError):  # a full disk has an error of its own
            write_json(path, time.monotonic() - began)
