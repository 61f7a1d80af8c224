"""Start, watch and end processes, so that none outlives the lab and none dies unnoticed."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from wireleak.lab.launch.endings import describe_status, telling_line
from wireleak.lab.launch.environment import environment
from wireleak.lab.launch.jail import Jail

_T = TypeVar("_T")


class LaunchError(RuntimeError):
    """A process could not start, or died. Its text is one line for the user; `log` is the process's log, if any."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


class Process:
    """A process that the lab started with `Launcher.start`.

    Attributes
    ----------
    name : str
        Its name in messages.
    log : Path
        File with its standard output and error.
    lasting : bool
        Whether it must run until it is stopped; otherwise it may end by itself, with status 0.
    essential : bool
        Whether its unexpected end also ends the run.
    temporary : Path or None
        Folder that is removed when it ends.
    cpu_seconds, peak_bytes : float, int
        CPU time and peak resident memory of it and its children; 0 until it ends.
    """

    def __init__(
        self, launcher: Launcher, identity: int, name: str, log: Path, *, lasting: bool, essential: bool
    ) -> None:
        self.name = name
        self.log = log
        self.lasting = lasting
        self.essential = essential
        self.cpu_seconds = 0.0
        self.peak_bytes = 0
        self.stopping = False
        self.temporary: Path | None = None
        self._launcher = launcher
        self._identity = identity
        self._pid: int | None = None
        self._status: int | None = None
        self._failure: str | None = None

    @property
    def pid(self) -> int:
        """The process id; waits until the process has been forked.

        Raises
        ------
        LaunchError
            The process could not start.
        """
        self._launcher._wait_for(lambda: self._pid is not None or self._status is not None, None)
        if self._pid is None:
            raise LaunchError(self.describe_end(), self.log)
        return self._pid

    def poll(self) -> int | None:
        """Return the exit status (negative: the signal that killed it), or None while it runs."""
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends, and return the exit status.

        Raises
        ------
        TimeoutError
            It still runs after `timeout` seconds.
        """
        if not self._launcher._wait_for(lambda: self._status is not None, timeout):
            raise TimeoutError(f"{self.name} still runs after {timeout:g} s")
        return self._status or 0

    def send_signal(self, number: int) -> None:
        """Send it a signal. If that ends it, the rest of its group is killed."""
        self._launcher._request(request="signal", id=self._identity, signal=int(number))

    def stop(self, grace: float = 3.0) -> int | None:
        """End it: send SIGINT, and after `grace` seconds SIGKILL to the rest of its group."""
        self._launcher.stop([self], grace)
        return self._status

    @property
    def failed(self) -> bool:
        """Whether it ended unexpectedly: too early, or with an error."""
        return self._status is not None and not self.stopping and (self.lasting or self._status != 0)

    def last_line(self) -> str:
        """Return the most informative line of its log about its end ("" if there is none)."""
        return telling_line(self.log, exceptions=self._status != 2)

    def describe_end(self) -> str:
        """Return one line: its name, its exit status, and the most informative line of its log."""
        if self._launcher.refusal is not None:
            return self._launcher.refusal
        if self._failure is not None:
            return f"{self.name} could not start: {self._failure}"
        how = describe_status(self._status)
        # Its own lines begin with its name, too.
        said = self.last_line().removeprefix(f"{self.name}: ")
        return f"{self.name} {how}: {said}" if said else f"{self.name} {how}, its log is empty ({self.log})"


class Launcher:
    """A launcher of processes through a fork server, so that a Python process costs a fork and not its imports.

    Use it as a context manager: on leaving, all processes are stopped, the last one first. A second Ctrl-C kills them.
    If the lab itself is killed, the fork server kills them all.

    Parameters
    ----------
    preload : bool
        Import the heavy libraries once, in the background (about 5 CPU-seconds). False: every process is a fresh
        interpreter; nothing else changes.
    log : Path, optional
        File for the fork server's own messages.
    """

    def __init__(self, preload: bool = True, log: Path | None = None) -> None:
        self.processes: list[Process] = []
        self.preload: dict[str, Any] = {}
        self.refusal: str | None = None
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._connection, theirs = socket.socketpair()
        self._closed = False
        root = Path(__file__).resolve().parents[3]
        command = [sys.executable, "-P", "-m", "wireleak.lab.launch.zygote", str(theirs.fileno())]
        command.append("preload" if preload else "plain")
        output = log.open("ab") if log is not None else subprocess.DEVNULL
        try:
            # In its own session, so that a terminal's Ctrl-C reaches only the lab.
            self._zygote = subprocess.Popen(
                command,
                cwd=root,
                env=environment({}),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            theirs.close()
            if not isinstance(output, int):
                output.close()
        threading.Thread(target=self._listen, name="launcher", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except KeyboardInterrupt:
            self.kill()

    def start(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        *,
        lasting: bool = False,
        essential: bool = True,
        early: bool = False,
        jail: Jail | None = None,
    ) -> Process:
        """Start a process and return at once; `check` reports errors.

        Parameters
        ----------
        name : str
            Its name in messages.
        argv : sequence of str
            `["-m", MODULE, …]`, `["package.module:function", …]` or a program and its arguments.
        log : Path
            File to which its output is appended; its folder is created.
        env : mapping, optional
            Variables in addition to the lab's own environment and those of `wireleak.lab.launch.environment`.
        cwd : Path, optional
            Working folder; by default the lab's own.
        lasting, essential : bool
            See `Process`.
        early : bool
            Whether it needs Flower but not torch, so that it can start before all of `preload` is imported.
        jail : Jail, optional
            What it may read, write and reach; without one it may do what the lab may.

        Raises
        ------
        LaunchError
            The launcher is closed, or its fork server has refused to work.
        """
        log = log.absolute()
        log.parent.mkdir(parents=True, exist_ok=True)
        with self._changed:
            self._refuse_after_the_end()
            process = Process(self, len(self.processes), name, log, lasting=lasting, essential=essential)
            self.processes.append(process)
            process.temporary = None if jail is None else jail.temporary
        self._request(
            request="start",
            id=process._identity,
            argv=[str(word) for word in argv],
            log=str(log),
            env=environment({**(env or {}), **({} if jail is None else jail.environment)}),
            cwd=str((cwd or Path.cwd()).absolute()),
            early=early,
            jail=None if jail is None else jail.as_json(),
        )
        return process

    def check(self) -> None:
        """Raise LaunchError if an essential process or the fork server has died. It is cheap: call it while waiting."""
        self._refuse_after_the_end()
        # First the fork server: when it dies, all others die with it.
        if self._zygote.poll() is not None:
            raise LaunchError(f"the fork server {describe_status(self._zygote.returncode)}")
        for process in self.processes:
            if process.failed and process.essential:
                raise LaunchError(process.describe_end(), process.log)

    def wait_until(
        self,
        condition: Callable[[], _T | None],
        timeout: float,
        event: str,
        log: Path | None = None,
        progress: Path | None = None,
    ) -> _T:
        """Poll `condition` until its result is true, and return that.

        Raises
        ------
        LaunchError
            An essential process died, or `timeout` seconds passed, with `progress` since that file last changed.
        """
        deadline, written = time.monotonic() + timeout, 0
        while not (result := condition()):
            self.check()
            if progress is not None and progress.exists() and (now := progress.stat().st_mtime_ns) != written:
                deadline, written = time.monotonic() + timeout, now
            if time.monotonic() > deadline:
                late = "made no progress; raise system.timeout from" if progress else "took longer than"
                raise LaunchError(f"{event} {late} {timeout:g} s", log)
            with self._changed:
                self._changed.wait(0.02)
        return result

    def wait_ready(self, process: Process, ready: Path, timeout: float = 60.0) -> dict[str, Any]:
        """Wait for the ready file of a process that listens, and return its content.

        Raises
        ------
        LaunchError
            The process ended before, or `timeout` seconds passed.
        """

        def content() -> dict[str, Any] | None:
            if process.poll() is not None:
                raise LaunchError(process.describe_end(), process.log)
            return dict(json.loads(ready.read_text())) if ready.exists() else None

        return self.wait_until(content, timeout, f"{process.name}: the start", process.log)

    def finish(self, process: Process, timeout: float, progress: Path | None = None) -> None:
        """Wait until `process` ends by itself with status 0, and watch all others meanwhile.

        Raises
        ------
        LaunchError
            It or an essential process failed, or `timeout` seconds passed, as for `wait_until`.
        """
        self.wait_until(lambda: process.poll() is not None, timeout, process.name, process.log, progress)
        if process.poll() != 0:
            raise LaunchError(process.describe_end(), process.log)

    def stop(self, processes: Iterable[Process], grace: float = 3.0) -> None:
        """End processes together: send SIGINT to each, then SIGKILL after `grace` seconds to the groups left."""
        running = [process for process in processes if process.poll() is None]
        for process in running:
            process.stopping = True
            process.send_signal(signal.SIGINT)
        if not self._wait_for(lambda: all(p.poll() is not None for p in running), grace):
            for process in running:
                process.send_signal(signal.SIGKILL)
            self._wait_for(lambda: all(p.poll() is not None for p in running), 5)

    def end_all(self) -> None:
        """Kill every process that runs, without a chance to end as if its work was done; others may start later."""
        for process in [one for one in self.processes if one.poll() is None]:
            process.stopping = True
            process.send_signal(signal.SIGKILL)

    def close(self, grace: float = 3.0) -> None:
        """Stop all processes, the last started first, then the fork server."""
        for process in reversed(self.processes):
            self.stop([process], grace)
        self.kill()

    def kill(self) -> None:
        """Kill all running processes at once."""
        with self._changed:
            self._closed = True
        for process in self.processes:
            process.stopping = True
        # The end of the stream tells the fork server that its children are no longer needed.
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        try:
            self._zygote.wait(6)
        except subprocess.TimeoutExpired:
            self._zygote.kill()
            self._zygote.wait()

    def _refuse_after_the_end(self) -> None:
        if self._closed:
            raise LaunchError("every process was stopped")
        if self.refusal is not None:
            raise LaunchError(self.refusal)

    def _request(self, **request: Any) -> None:
        # Where the fork server is gone, `_listen` has marked, or is about to mark, every process as ended.
        with contextlib.suppress(OSError), self._sending:
            self._connection.sendall(json.dumps(request).encode() + b"\n")

    def _wait_for(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def _listen(self) -> None:
        # A fork server that is killed before it has read a request resets the stream.
        with contextlib.suppress(ConnectionResetError), self._connection.makefile("rb") as lines:
            for line in lines:
                with self._changed:
                    self._take(json.loads(line))
                    self._changed.notify_all()
        # Its stream ends a little before it does: whoever sees its children ended must see that it is the reason.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._zygote.wait(5)
        with self._changed:
            self._end_all(-signal.SIGKILL)
            self._changed.notify_all()
        self._connection.close()

    def _end_all(self, status: int) -> None:
        for process in self.processes:
            if process._status is None:
                process._status = status

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.pop("event")
        if kind == "ready":
            self.preload = event
            return
        if kind == "refused":
            self.refusal = event["error"]
            self._end_all(2)
            return
        process = self.processes[event["id"]]
        if kind == "started":
            process._pid = event["pid"]
        elif kind == "failed":
            process._status, process._failure = 127, event["error"]
        else:
            process.cpu_seconds, process.peak_bytes = event["cpu"], event["rss"] * 1024
            if process.temporary is not None:
                shutil.rmtree(process.temporary, ignore_errors=True)
            process._status = event["status"]
