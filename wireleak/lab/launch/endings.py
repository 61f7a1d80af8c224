"""Read the log of a process: its progress, and the reason for its end."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

from wireleak.common.words import PROGRESS, printable
from wireleak.lab.launch import flower

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Refused)\b.*")
_NOISE = re.compile(rf"^(For more information|INFO\b|Exit Code:|{PROGRESS}|$)")


def telling_line(log: Path, *, exceptions: bool = True) -> str:
    """Return the most informative line of a log about the end of its process.

    Parameters
    ----------
    log : Path
        The log; a missing file counts as empty.
    exceptions : bool
        Prefer the last line that names an exception. Otherwise, or without such a line, the last informative line is
        returned.
    """
    lines = _last_lines(log)[-200:]
    if exceptions:
        named = [line for line in lines if _EXCEPTION.match(line)]
        if named:
            return named[-1]
    telling = [line for line in lines if not _NOISE.match(line)]
    return telling[-1] if telling else ""


def with_progress(name: str, log: Path) -> str:
    """Return a process's name, with the last progress in its log: "attack (epochs, 3 of 10)"."""
    said = [line.removeprefix(PROGRESS) for line in _last_lines(log, 4096) if line.startswith(PROGRESS)]
    return f"{name} ({printable(said[-1], 80)})" if said else name


def _last_lines(log: Path, size: int = 65536) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [_ANSI.sub("", line).strip() for line in text.splitlines()]


def describe_status(status: int | None) -> str:
    """Describe an exit status (negative: a signal) in words."""
    if status is None:
        return "still runs"
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def explain_end(name: str, status: int, log: Path) -> str:
    """Return the end of a process in one line; the log of one that was killed says nothing about that."""
    said = telling_line(log) if status > 0 else ""
    return f"{name} {describe_status(status)}{': ' if said else ''}{said}"


class Ends:
    """The ends of app processes, read from the runner's events; see `wireleak.lab.launch.runner`.

    Parameters
    ----------
    events : Path
    """

    def __init__(self, events: Path) -> None:
        self._events = events
        self._read = 0
        self._statuses: list[int] = []
        self._failed: dict[str, int] = {}

    def statuses(self) -> list[int]:
        """Return the exit status of each ServerApp that has ended, in their order."""
        self._update()
        return self._statuses

    def failed(self) -> dict[str, int]:
        """Return the last exit status, other than 0, of each ClientApp that died or failed, by its name."""
        self._update()
        return self._failed

    def _update(self) -> None:
        if not self._events.exists() or self._events.stat().st_size <= self._read:
            return
        # A run of thousands of rounds has a line for each message, so only new lines are read.
        with self._events.open("rb") as file:
            file.seek(self._read)
            *lines, _ = file.read().split(b"\n")
        self._read += sum(len(line) + 1 for line in lines)
        for end in map(json.loads, lines):
            if end["task"] == flower.SERVERAPP:
                self._statuses.append(end["status"])
            elif end["status"]:
                self._failed[end["name"]] = end["status"]
