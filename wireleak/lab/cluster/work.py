"""A task's work on a node: write its files to a temporary folder, do it there, and return the new files."""

from __future__ import annotations

import dataclasses
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wireleak.lab.cluster.files import Bytes, State, states, write, written_since
from wireleak.lab.errors import expected_errors
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.run.cell import Cell
from wireleak.lab.steps.attack import fit_and_guess
from wireleak.lab.steps.executor import capture_anew
from wireleak.lab.steps.wires import inspect_captures

Files = Mapping[str, Bytes]
# Stands for the run's folder in an attack's config.
RUN = "<run>"
_kept: Launcher | None = None


@dataclass
class Outcome:
    """The result of a task.

    Parameters
    ----------
    files : dict
        New files by their path in the run's folder; the last one written comes last.
    error : str, optional
        Why the task failed, in one line; it has files all the same.
    warnings : list of str
        Lines for the user.
    processes : list of dict
        Name, CPU seconds and peak memory of each process.
    """

    files: dict[str, Bytes] = field(default_factory=dict)
    error: str | None = None
    warnings: list[str] = field(default_factory=list)
    processes: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Capture:
    """Capture a cell and list what its captures contain.

    Parameters
    ----------
    cell : Cell
    """

    cell: Cell

    def __call__(self, run: Path, put: Callable[[], None], launcher: Launcher, warn: Callable[[str], None]) -> None:
        """Work in the folder `run`, into which `put` writes the task's files."""
        cell = dataclasses.replace(self.cell, run=run)
        capture_anew(cell, put, launcher, lambda _: None, warn)
        inspect_captures(cell, launcher)


@dataclass(frozen=True)
class Attack:
    """Run an attack.

    Parameters
    ----------
    name : str
        Its name in messages.
    config : dict
        The adversary's config, with `RUN` for the run's folder.
    log : str
        Path of its log in the run's folder.
    """

    name: str
    config: dict[str, Any]
    log: str

    def __call__(self, run: Path, put: Callable[[], None], launcher: Launcher, warn: Callable[[str], None]) -> None:
        """Work in the folder `run`, into which `put` writes the task's files."""
        put()
        fit_and_guess(launcher, self.name, moved(self.config, RUN, str(run)), run / self.log)


def perform(task: Capture | Attack, files: Files, run: str) -> Outcome:
    """Do a task's work on this node.

    Parameters
    ----------
    task : Capture or Attack
    files : mapping
        All files that the task reads, by their path in the run's folder.
    run : str
        The run's folder on the machine that runs the study; files and messages name it.
    """
    outcome = Outcome()
    # Ray cancels a task as Ctrl-C would, which a node that was started in the background ignores.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="wireleak-") as name:
        folder = Path(name).resolve()
        before: dict[str, State] = {}

        def put() -> None:
            write(folder, files)
            before.update(states(folder))

        expected: tuple[type[Exception], ...] = (*expected_errors(), OSError)
        with _launcher() as launcher:
            first = len(launcher.processes)
            try:
                task(folder, put, launcher, outcome.warnings.append)
            except expected as error:
                outcome.error = str(error).replace(str(folder), run)
                forget_launcher()
        outcome.processes = [
            {"name": one.name, "cpu_s": one.cpu_seconds, "peak_bytes": one.peak_bytes}
            for one in launcher.processes[first:]
        ]
        for path, content in written_since(folder, before).items():
            # Flower's own files are many, and nobody reads them after the capture.
            if "/flower/" not in path:
                outcome.files[path] = _renamed(content, str(folder), run) if path.endswith(".json") else content
        return outcome


def moved(value: Any, old: str, new: str) -> Any:
    """Return a config in which every path in the folder `old` is in the folder `new`."""
    if isinstance(value, str):
        return new + value[len(old) :] if value == old or value.startswith(f"{old}/") else value
    if isinstance(value, dict):
        return {key: moved(one, old, new) for key, one in value.items()}
    return [moved(one, old, new) for one in value] if isinstance(value, list) else value


def _renamed(content: Bytes, old: str, new: str) -> Bytes:
    return np.frombuffer(content.tobytes().replace(old.encode(), new.encode()), np.uint8)


@contextmanager
def _launcher() -> Iterator[Launcher]:
    """Lend this process's launcher, so that only its first task pays for the imports."""
    global _kept
    if _kept is None:
        _kept = Launcher()
    try:
        yield _kept
    except BaseException:
        # A cancelled task gets here.
        forget_launcher()
        raise


def forget_launcher() -> None:
    """Kill every process that this process's launcher started; the next task starts another launcher."""
    global _kept
    if _kept is not None:
        _kept.kill()
        _kept = None
