"""List the runs in a folder with their size and age, and remove runs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from wireleak.common.files import files_below
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.results import ResultsError

_AGES = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


@dataclass(frozen=True)
class Run:
    """A run on disk.

    Parameters
    ----------
    folder : Path
        Its folder.
    study : str
        The study's name.
    seeds : int
        Number of seeds.
    captures : int
        Cells whose captures are complete.
    finished : bool
        Whether it has results.
    bytes : int
        Size of all its files on disk.
    changed : float
        Time of its last change, Unix seconds.
    """

    folder: Path
    study: str
    seeds: int
    captures: int
    finished: bool
    bytes: int
    changed: float


def list_runs(folder: Path) -> list[Run]:
    """Return the runs in a folder, newest first.

    Raises
    ------
    ResultsError
        There is no such folder.
    """
    if not folder.is_dir():
        raise ResultsError(f"--in: no folder {folder}; name the folder that holds the runs")
    found = [read_run(path) for path in folder.iterdir() if not path.is_symlink() and is_run(path)]
    return sorted(found, key=lambda run: run.changed, reverse=True)


def is_run(path: Path) -> bool:
    """Return whether a folder holds a run: a study and its plan, or results."""
    files = RunFolder(path)
    return files.results.is_file() or (files.study.is_file() and files.plan.is_file())


def read_run(path: Path) -> Run:
    """Return the facts of a run; a broken plan leaves the study's name empty."""
    files = RunFolder(path)
    try:
        study = json.loads(files.plan.read_text())["study"]
        name, seeds = str(study["name"]), len(study["seeds"])
    except (OSError, ValueError, KeyError, TypeError):
        name, seeds = "", 0
    found = list(files_below(path))
    changed = max((seconds for _, seconds in found), default=path.stat().st_mtime)
    size = sum(count for count, _ in found)
    return Run(path, name, seeds, len(files.captured()), files.results.is_file(), size, changed)


def remove_runs(folders: Sequence[Path]) -> Iterator[Run]:
    """Remove runs one after another, and each `-latest` link that pointed to one; yield each removed run.

    Every folder is checked before the first is removed.

    Raises
    ------
    ResultsError
        A folder is no run, or processes still work in it.
    """
    resolved = [folder.resolve() for folder in folders]
    for given, folder in zip(folders, resolved, strict=True):
        if not is_run(folder):
            raise ResultsError(f"RUN: {given} is not a run's folder; `wireleak runs` lists them")
        if (number := _user_of(folder)) is not None:
            raise ResultsError(f"RUN: process {number} still works in {given}; stop it first")
    for folder in dict.fromkeys(resolved):
        run = read_run(folder)
        # The study's file goes first: an interrupted removal leaves no run that could be resumed or compared.
        for path in (RunFolder(folder).study, RunFolder(folder).results):
            path.unlink(missing_ok=True)
        shutil.rmtree(folder)
        for link in folder.parent.glob("*-latest"):
            if link.is_symlink() and not link.exists():
                link.unlink()
        yield run


def age_text(changed: float, now: float | None = None) -> str:
    """Write the time since a change in its largest unit: "3 d"."""
    seconds = max(0.0, (time.time() if now is None else now) - changed)
    return next((f"{seconds / unit:.0f} {name}" for unit, name in _AGES if seconds >= unit), "now")


def _user_of(folder: Path) -> int | None:
    """Return a process whose command names a file of this folder; None without one."""
    inside = f"{folder}/"
    for process in psutil.process_iter(["cmdline"]):
        words: Iterable[str] = process.info["cmdline"] or ()
        if any(inside in word for word in words):
            return int(process.pid)
    return None
