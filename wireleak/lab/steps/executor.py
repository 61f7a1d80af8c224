"""Where the captures and attacks of a study run: by default as processes on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any, Protocol

from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.job import AttackJob
from wireleak.lab.steps.attack import run_attack
from wireleak.lab.steps.capture import capture_cell
from wireleak.lab.steps.deal import write_cell
from wireleak.lab.steps.devices import check_devices
from wireleak.lab.steps.plan import Plan
from wireleak.lab.study.schema import Study

# Errors of Flower when the objects of two messages collide.
_LOST_BY_FLOWER = ("ObjectPushError", "ObjectPullError")
Say = Callable[[str], None]


class Executor(Protocol):
    """Run captures and attacks, from several threads at once; their files are then in the run's folder.

    Attributes
    ----------
    jobs : int
        Number of cells, and of attacks, that are under way at once.
    processes : list of dict
        Name, CPU seconds and peak memory of each process that the given launchers did not start.
    """

    jobs: int
    processes: list[dict[str, Any]]

    def check(self, study: Study) -> None:
        """Refuse a study that cannot run here, before anything starts."""

    def capture(self, cell: Cell, plan: Plan, launcher: Launcher, say: Say, warn: Say) -> None:
        """Deal a cell's data and capture the cell."""

    def attack(self, job: AttackJob, launcher: Launcher, attack: dict[str, Any]) -> None:
        """Run an attack, given the adversary's description of it."""

    def stop(self) -> None:
        """End everything that is under way."""


class LocalExecutor:
    """Run every capture and attack on this machine.

    Parameters
    ----------
    jobs : int
        Number of cells, and of attacks, that run at once.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.processes: list[dict[str, Any]] = []

    def check(self, study: Study) -> None:
        """Refuse emulated devices that this machine cannot emulate."""
        check_devices(study)

    def capture(self, cell: Cell, plan: Plan, launcher: Launcher, say: Say, warn: Say) -> None:
        """Deal a cell's data and capture the cell."""
        capture_anew(cell, lambda: write_cell(plan, cell), launcher, say, warn)

    def attack(self, job: AttackJob, launcher: Launcher, attack: dict[str, Any]) -> None:
        """Run an attack, given the adversary's description of it."""
        run_attack(job, launcher, attack)

    def stop(self) -> None:
        """Do nothing: whoever made the launcher ends its processes."""


def capture_anew(cell: Cell, write: Callable[[], None], launcher: Launcher, say: Say, warn: Say) -> None:
    """Write a cell's files and capture it; if Flower loses one of its objects, warn and capture once more.

    Flower loses an object about once in a hundred cells on a busy machine, which would end a study of hours.

    Parameters
    ----------
    cell : Cell
    write : callable
        Writes the data of every party into the cell's folder, which has been removed.
    launcher : Launcher
    say, warn : callable
        Called with each step in a few words, and with a warning.

    Raises
    ------
    LaunchError
        A process failed.
    """
    for last in (False, True):
        shutil.rmtree(cell.folder, ignore_errors=True)
        write()
        try:
            capture_cell(cell, launcher, say)
            return
        except LaunchError as error:
            if last or not any(name in str(error) for name in _LOST_BY_FLOWER):
                raise
            warn(f"{cell.name} is captured again: {error}")
