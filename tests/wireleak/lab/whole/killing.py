"""Kill a process of a run at a stage of it, seen only by the run's files and by the machine's list of processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

LAB, FORK_SERVER = "lab", "fork server"
# The decoder writes its answer to this file of the cell, and not to a log.
DECODER = "decoder"


@dataclass(frozen=True)
class End:
    """How a run ended: its exit status, its last line of output, and what is wrong with what it left behind."""

    status: int
    line: str
    faults: list[str]


class Running:
    """`wireleak run` under way.

    Parameters
    ----------
    arguments : list of str
        Of `wireleak run`.
    folder : Path
        The working folder.
    cell : Path
        Folder of the cell whose processes are looked for; it need not exist yet.
    """

    def __init__(self, arguments: list[str], folder: Path, cell: Path) -> None:
        self.cell = cell
        self._output = cell.parent.with_name(f"{cell.parent.name}.txt")
        with self._output.open("w") as output:
            command = [sys.executable, "-m", "wireleak", "run", *arguments]
            self.process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)

    def pid(self, name: str) -> int | None:
        """Return the pid of the lab, of its fork server, or of the process that writes the log of this name."""
        if name == LAB:
            return self.process.pid
        log = self.cell / "adversary" / "inspect.partial" if name == DECODER else self.cell / "logs" / f"{name}.log"
        for path in Path("/proc").glob("[0-9]*"):
            pid = int(path.name)
            try:
                if name == FORK_SERVER:
                    command = (path / "cmdline").read_bytes()
                    if b"wireleak.lab.launch.zygote" in command and _parent(pid) == self.process.pid:
                        return pid
                elif (path / "fd" / "1").readlink() == log:
                    return pid
            except OSError:
                continue
        return None

    def kill(self, name: str, stage: Callable[[Running], bool], seconds: float = 600) -> None:
        """Wait for the stage, and kill the process as soon as it exists."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if stage(self) and (pid := self.pid(name)) is not None:
                os.kill(pid, signal.SIGKILL)
                return
            assert self.process.poll() is None, f"{name}: the run ended before the stage: {self._output.read_text()}"
            time.sleep(0.01)
        self.process.kill()
        raise AssertionError(f"{name} did not reach the stage: {self._output.read_text()}")

    def end(self, seconds: float = 600) -> End:
        """Wait for the run's end."""
        self.process.wait(seconds)
        lines = self._output.read_text().strip().splitlines()
        return End(self.process.returncode, lines[-1] if lines else "", self._faults(lines))

    def _faults(self, lines: list[str]) -> list[str]:
        deadline = time.monotonic() + 20
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        faults = [f"left behind: {name}" for name in left]
        faults += [f"half-written: {path}" for path in self.cell.parent.rglob("*") if path.is_file() and _broken(path)]
        return faults + [line for line in lines if line.startswith("Traceback")]

    def _left(self) -> list[str]:
        """Return the processes that have a file of the run open, or work in its folder."""
        left = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                places = [path / "cwd", *(path / "fd").iterdir()]
                if any(str(place.readlink()).startswith(str(self.cell.parent)) for place in places):
                    left.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode()[-80:] + path.name)
            except OSError:
                continue
        return left


def rounds(run: Running) -> int:
    """Return the number of rounds that the cell has trained."""
    try:
        return len(json.loads((run.cell / "server" / "history.json").read_text())["rounds"])
    except FileNotFoundError:
        return 0


def _parent(pid: int) -> int:
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return 0


def _broken(path: Path) -> bool:
    """Return whether a file that is always written whole is not."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".npz":
            return zipfile.ZipFile(path).testzip() is not None
    except (ValueError, zipfile.BadZipFile):
        return True
    return False
