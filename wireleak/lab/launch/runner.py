"""Run Flower's app processes as forks; what concerns Flower itself is in `wireleak.lab.launch.flower`.

`python -m wireleak.lab.launch.runner --config F`, itself forked from the fork server, asks each Runtime API for tasks.
A ServerApp is a fork that runs Flower's own `flwr-serverapp` command. A ClientApp is a fork that lives as long as its
run: it gets the token of each message over a socket. A ClientApp that failed ends, and the next message gets a new one.
Each client has a process of its own.

Config: `{"poll": seconds, "events": path, "wake": path, "apps": [{"name", "address", "root_certificates", "pid",
"home", "log", "own", "calls", "bell", "jail"}]}`;
`pid` is the node's: its children end with it. `home` is their FLWR_HOME. After each task a JSON line is added to
`events`: name, task, status, cpu (s), seconds, rss (bytes). An app with `own` ("module:attribute") runs that instead of
the bundle that it received. So a malicious participant uses Flower's own node with its own code. An app with `jail` is
in that jail.

A node with `calls` writes its pid as a line to the named pipe `wake` when it has a task, and the runner then asks it.
All others are asked every `poll` seconds. Asking two idle nodes four times a second took 4 % more of a core.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import resource
import select
import signal
import socket
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psutil

from wireleak.common.files import named_config
from wireleak.lab.launch import flower
from wireleak.lab.launch.endings import describe_status
from wireleak.lab.launch.jail import Jail
from wireleak.lab.launch.zygote import become_child, end_child, fork, run_command

# A node that does not answer is starting or gone; asking it often would only cost time.
_RETRY_SECONDS = 0.5
# Nodes that call are also asked this often, in case a call is lost.
_SELDOM_SECONDS = 3.0


@dataclass(eq=False)
class RuntimeApp:
    """A Runtime API that offers tasks, and the settings to run them."""

    name: str
    address: str
    root_certificates: str | None
    pid: int
    home: str
    log: Path
    own: str | None = None
    calls: bool = False
    bell: str | None = None
    jail: dict[str, Any] | None = None
    client: Any = field(init=False)
    not_before: float = 0.0

    def __post_init__(self) -> None:
        self.log = Path(self.log)
        self.client = flower.runtime_client(self.address, self.root_certificates)

    def acquire(self) -> tuple[str, str, int] | None:
        """Return type, token and run of a waiting task, if there is one."""
        if time.monotonic() < self.not_before:
            return None
        try:
            task = flower.acquire(self.client)
        except importlib.import_module("httpx").HTTPError:
            self.not_before = time.monotonic() + _RETRY_SECONDS
            return None
        if self.calls:
            self.not_before = time.monotonic() + _SELDOM_SECONDS
        return task

    def serve(self, token: str, bells: list[str]) -> NoReturn:
        """Run the ServerApp in this newly forked process, and end the process."""
        status = 1
        try:
            self._begin("flwr.superlink.grid.http_grid")
            flower.join_bells(self.bell, bells)
            trust = ["--root-certificates", self.root_certificates] if self.root_certificates else ["--insecure"]
            words = ["--runtime-api-address", self.address, "--token", token, *trust]
            status = run_command([flower.command(flower.SERVERAPP), *words])
        finally:
            end_child(status)

    def live(self, tokens: socket.socket) -> NoReturn:
        """Answer messages in this newly forked process until the runner ends it or a message fails."""
        status = 1
        try:
            self._begin(None)
            life = flower.ClientAppLife(self.address, self.root_certificates, self.own, self.bell)
            succeeded, before = True, 0.0
            with tokens.makefile("rw") as lines:
                while succeeded and (token := lines.readline().strip()):
                    succeeded = life.answer(token)
                    used = resource.getrusage(resource.RUSAGE_SELF)
                    cpu = used.ru_utime + used.ru_stime
                    event = {"status": int(not succeeded), "cpu": cpu - before, "rss": used.ru_maxrss * 1024}
                    before = cpu
                    print(json.dumps(event), file=lines, flush=True)
            status = int(not succeeded)
        except KeyboardInterrupt:
            status = -signal.SIGINT
        except BaseException:
            # `end_child` ends the process before the interpreter would print it.
            traceback.print_exc()
        finally:
            end_child(status)

    def answer_for(self, token: str, died: str) -> NoReturn:
        """Answer in this new process for a ClientApp that died before it took its message, and end the process."""
        status = 1
        try:
            self._begin(None)
            flower.ClientAppLife(self.address, self.root_certificates, None, self.bell).answer_for(token, died)
            status = 0
        finally:
            end_child(status)

    def _begin(self, module: str | None) -> None:
        become_child(self.log)
        os.environ["FLWR_HOME"] = self.home
        if self.jail is not None:
            jail = Jail.from_json(self.jail)
            os.environ.update(jail.environment)
            jail.enter()
        flower.quicken(module)


@dataclass
class _Fork:
    """A forked app: its task since `began`, if it has one, and for a ClientApp its run and the socket to it."""

    app: RuntimeApp
    task: str
    run: int
    began: float | None
    lines: socket.socket | None = None
    token: str = ""

    def leave(self) -> None:
        """Give the ClientApp no further message, so that it ends."""
        if self.lines is not None:
            # Forks that were made later hold copies of the socket, so closing it would not be enough.
            with contextlib.suppress(OSError):
                self.lines.shutdown(socket.SHUT_RDWR)
            self.lines.close()
            self.lines = None


class Runner:
    """The loop that asks apps and runs their tasks until SIGINT or SIGTERM; see the module's docstring."""

    def __init__(self, poll: float, events: Path, wake: Path | None, apps: list[RuntimeApp]) -> None:
        self._poll = poll
        self._events = events
        self._apps = apps
        # Opened for writing too, so that the pipe does not end while no node has it open.
        self._wake = [os.open(wake, os.O_RDWR | os.O_NONBLOCK)] if wake else []
        self._forks: dict[int, _Fork] = {}

    def serve(self) -> None:
        """Run until interrupted; children die with this process."""
        while True:
            self._reap()
            self._kill_deserted()
            # A node handles one message at a time, and the SuperLink one run.
            busy = [each.app for each in self._forks.values() if each.began is not None]
            for app in self._apps:
                if app not in busy and (task := app.acquire()):
                    self._start(app, *task)
            self._listen()

    def _listen(self) -> None:
        """Wait until a node calls or a ClientApp has answered, at most `poll` seconds."""
        answering = {each.lines.fileno(): each for each in self._forks.values() if each.lines and each.began}
        ready, _, _ = select.select([*self._wake, *answering], [], [], self._poll)
        for pipe in ready:
            if pipe in self._wake:
                called = os.read(pipe, 65536).split()
                for app in self._apps:
                    if str(app.pid).encode() in called:
                        app.not_before = 0.0
            else:
                self._hear(answering[pipe])

    def _hear(self, answering: _Fork) -> None:
        """Read what a ClientApp says about its task; nothing if it has ended, and `_reap` finds out how."""
        assert answering.lines is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):
            if line := answering.lines.recv(65536, socket.MSG_DONTWAIT):
                self._end_task(answering, **json.loads(line))

    def _start(self, app: RuntimeApp, task: str, token: str, run: int) -> None:
        if task == flower.CLIENTAPP:
            living = self._living(app, run)
            living.began, living.token = time.monotonic(), token
            # If it has just died, `_reap` finds out.
            with contextlib.suppress(OSError):
                assert living.lines is not None
                living.lines.sendall(f"{token}\n".encode())
            return
        pid = fork()
        if pid == 0:
            app.serve(token, [each.bell for each in self._apps if each.bell is not None and each is not app])
        self._forks[pid] = _Fork(app, task, run, time.monotonic())

    def _living(self, app: RuntimeApp, run: int) -> _Fork:
        """Return the process of a node's ClientApp in this run; start it if there is none."""
        for each in self._forks.values():
            if each.app is app and each.task == flower.CLIENTAPP and each.lines is not None:
                if each.run == run:
                    return each
                each.leave()
        ours, theirs = socket.socketpair()
        pid = fork()
        if pid == 0:
            ours.close()
            for each in self._forks.values():
                if each.lines is not None:
                    each.lines.close()
            app.live(theirs)
        theirs.close()
        self._forks[pid] = _Fork(app, flower.CLIENTAPP, run, None, ours)
        return self._forks[pid]

    def _kill_deserted(self) -> None:
        # Flower's own `--parent-pid` does not interrupt an app that sleeps or waits.
        for pid, each in self._forks.items():
            if not psutil.pid_exists(each.app.pid):
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        while self._forks:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            ended = self._forks.pop(pid)
            if ended.lines is not None and ended.began is not None:
                self._hear(ended)
            ended.leave()
            if ended.began is not None:
                cpu, rss = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
                code = os.waitstatus_to_exitcode(status)
                self._end_task(ended, code, cpu, rss)
                if ended.task == flower.CLIENTAPP:
                    self._answer_for(ended, code)

    def _answer_for(self, ended: _Fork, code: int) -> None:
        """Let a new process take the message of a ClientApp that died, if it is still there: its node waits for it."""
        died = f"the ClientApp {describe_status(code)}"
        pid = fork()
        if pid == 0:
            ended.app.answer_for(ended.token, died)
        self._forks[pid] = _Fork(ended.app, ended.task, ended.run, None)

    def _end_task(self, ended: _Fork, status: int, cpu: float, rss: int) -> None:
        assert ended.began is not None
        if not ended.app.calls:
            ended.app.not_before = 0.0
        seconds, ended.began = time.monotonic() - ended.began, None
        if status and ended.lines is not None:
            # A ClientApp that failed ends; it gets no further message.
            ended.leave()
        about = {"name": ended.app.name, "task": ended.task, "status": status}
        with self._events.open("a") as file:
            file.write(json.dumps(about | {"cpu": cpu, "seconds": seconds, "rss": rss}) + "\n")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Run the runner with the config named by `--config`."""
    signal.signal(signal.SIGTERM, _interrupt)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = named_config()
    with contextlib.suppress(KeyboardInterrupt):
        apps = [RuntimeApp(**app) for app in config["apps"]]
        wake = Path(config["wake"]) if config["wake"] else None
        Runner(config["poll"], Path(config["events"]), wake, apps).serve()


if __name__ == "__main__":
    main()
