"""Run Flower's app processes as forks. Only this file depends on Flower's internals.

With `--isolation process`, SuperNodes and the SuperLink wait for another program to run their apps. This is that
program: `python -m wireleak.lab.launch.runner --config F`, itself forked from the fork server. It asks each Runtime API
for tasks and forks a child for each task. The child runs Flower's own `flwr-clientapp` or `flwr-serverapp` command, so
a message costs a fork and not an import of torch.

Config: `{"poll": seconds, "events": path, "wake": path, "apps": [{"name", "address", "root_certificates", "pid",
"home", "log", "own", "calls"}]}`;
`pid` is the node's: its children end with it. `home` is their FLWR_HOME. When a child ends, a JSON line is added to
`events`: name, task, status, cpu (s), seconds, rss (bytes). An app with `own` ("module:attribute") runs that instead of
the bundle that it received. So a malicious participant uses Flower's own node with its own code.

A node with `calls` writes its pid as a line to the named pipe `wake` when it has a task, and the runner then asks it.
All others are asked every `poll` seconds. Asking two idle nodes four times a second took 4 % more of a core.

`supernode` is `flower-supernode` with a shorter idle wait. Flower's nodes and its ServerApp check for messages every 3
seconds, which is most of the time of a small study: two rounds take 17 s instead of 4. `WIRELEAK_FLOWER_POLL`
(seconds) sets this wait for nodes and apps. They also send heartbeats more often, so that a killed one is noticed
sooner.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import os
import select
import signal
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

import psutil

from wireleak.lab.launch.zygote import become_child, end_child, fork, run_command

POLL = "WIRELEAK_FLOWER_POLL"
WAKE = "WIRELEAK_FLOWER_WAKE"
TASKS = ("flwr-clientapp", "flwr-serverapp")
# A node that does not answer is starting or gone; asking it often would only cost time.
_RETRY_SECONDS = 0.5
# Nodes that call are also asked this often, in case a call is lost.
_SELDOM_SECONDS = 3.0
# Flower drops a node that is silent for twice this long; Flower's own value is 30.
_HEARTBEAT_SECONDS = 12


class _Clock:
    """The module `time` with shorter sleeps; it replaces `time` in one of Flower's modules."""

    def __init__(self, longest: float) -> None:
        self._longest = longest

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, self._longest))


def unavailable() -> str | None:
    """Return why the runner cannot drive this Flower, or None if it can."""
    try:
        _flower("flwr.supercore.runtime", "RuntimeHttpClient").AcquireTask  # noqa: B018
        _flower("flwr.supercore.interceptors", "RuntimeVersionHttpInterceptor")
        _flower("flwr.proto.runtime_pb2", "AcquireTaskRequest")
        for name in ("get_load_client_app_fn", "install_from_fab"):
            _flower("flwr.supernode.runtime.run_clientapp", name)
        _flower("flwr.supernode.start_client_internal", "_pull_and_store_message")
        for task in TASKS:
            _command(task)
    except (ImportError, AttributeError, LookupError) as error:
        return str(error)
    return None


def supernode() -> None:
    """Run `flower-supernode` with the wait of `WIRELEAK_FLOWER_POLL`; it calls the runner."""
    _quicken("flwr.supernode.start_client_internal")
    if wake := os.environ.get(WAKE):
        _call_when_given_a_message(wake)
    if os.environ.get(POLL):
        for module in ("flwr.client.grpc_rere_client.connection", "flwr.supercore.corestate.in_memory_corestate"):
            _beat(module)
    _flower("flwr.supernode.cli", "flower_supernode")()


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
    client: Any = field(init=False)
    not_before: float = 0.0

    def __post_init__(self) -> None:
        self.log = Path(self.log)
        certificates = self.root_certificates and Path(self.root_certificates).read_bytes()
        self.client = _flower("flwr.supercore.runtime", "RuntimeHttpClient").from_server_address(
            server_address=self.address,
            insecure=self.root_certificates is None,
            root_certificates=certificates,
            interceptors=[_flower("flwr.supercore.interceptors", "RuntimeVersionHttpInterceptor")("wireleak-runner")],
        )

    def acquire(self) -> tuple[str, str] | None:
        """Return type and token of a waiting task, if there is one."""
        if time.monotonic() < self.not_before:
            return None
        request = _flower("flwr.proto.runtime_pb2", "AcquireTaskRequest")(supported_task_types=TASKS)
        try:
            response = self.client.AcquireTask(request)
        except _flower("httpx", "HTTPError"):
            self.not_before = time.monotonic() + _RETRY_SECONDS
            return None
        if response.HasField("task") and response.token:
            return response.task.type, response.token
        if self.calls:
            self.not_before = time.monotonic() + _SELDOM_SECONDS
        return None

    def run(self, task: str, token: str) -> NoReturn:
        """Run a task in this newly forked process, and end the process."""
        status = 1
        try:
            become_child(self.log)
            os.environ["FLWR_HOME"] = self.home
            _quicken("flwr.superlink.grid.http_grid" if task == "flwr-serverapp" else None)
            if task == "flwr-clientapp":
                _install_once(Path(self.home))
            if self.own is not None and task == "flwr-clientapp":
                _load_instead(self.own)
            trust = ["--root-certificates", self.root_certificates] if self.root_certificates else ["--insecure"]
            status = run_command([_command(task), "--runtime-api-address", self.address, "--token", token, *trust])
        finally:
            end_child(status)


class Runner:
    """The loop that polls apps and runs their tasks until SIGINT or SIGTERM; see the module's docstring."""

    def __init__(self, poll: float, events: Path, wake: Path | None, apps: list[RuntimeApp]) -> None:
        self._poll = poll
        self._events = events
        self._apps = apps
        # Opened for writing too, so that the pipe does not end while no node has it open.
        self._wake = [os.open(wake, os.O_RDWR | os.O_NONBLOCK)] if wake else []
        self._running: dict[int, tuple[RuntimeApp, str, float]] = {}

    def serve(self) -> None:
        """Run until interrupted; children die with this process."""
        while True:
            self._reap()
            self._kill_deserted()
            # A node handles one message at a time, and the SuperLink one run.
            busy = [app for app, _, _ in self._running.values()]
            for app in self._apps:
                if app not in busy and (task := app.acquire()):
                    self._start(app, *task)
            self._listen()

    def _listen(self) -> None:
        """Wait until a node calls, at most `poll` seconds."""
        ready, _, _ = select.select(self._wake, [], [], self._poll)
        called = [line for pipe in ready for line in os.read(pipe, 65536).split()]
        for app in self._apps:
            if str(app.pid).encode() in called:
                app.not_before = 0.0

    def _start(self, app: RuntimeApp, task: str, token: str) -> None:
        pid = fork()
        if pid == 0:
            app.run(task, token)
        self._running[pid] = (app, task, time.monotonic())

    def _kill_deserted(self) -> None:
        # Flower's own `--parent-pid` does not interrupt an app that sleeps or waits.
        for pid, (app, _, _) in self._running.items():
            if not psutil.pid_exists(app.pid):
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        while self._running:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            app, task, began = self._running.pop(pid)
            app.not_before = 0.0
            event = {
                "name": app.name,
                "task": task,
                "status": os.waitstatus_to_exitcode(status),
                "cpu": usage.ru_utime + usage.ru_stime,
                "seconds": time.monotonic() - began,
                "rss": usage.ru_maxrss * 1024,
            }
            with self._events.open("a") as file:
                file.write(json.dumps(event) + "\n")


def _quicken(module: str | None = None) -> None:
    """Shorten the waits in one of Flower's modules, including those for an object that has not arrived."""
    if longest := os.environ.get(POLL):
        if module is not None:
            importlib.import_module(module).time = _Clock(float(longest))  # type: ignore[attr-defined]
        for function in ("pull_objects", "pull_and_inflate_object_from_tree"):
            waits = _flower("flwr.supercore.inflatable.inflatable_utils", function).__kwdefaults__
            waits.update(initial_backoff=float(longest) / 4, backoff_cap=float(longest))
        _beat("flwr.supercore.heartbeat")


def _call_when_given_a_message(wake: str) -> None:
    """Make this node write its pid to the runner's pipe after it has stored a message for its app."""
    module: Any = importlib.import_module("flwr.supernode.start_client_internal")
    pull = module._pull_and_store_message

    def calling(*given: Any, **named: Any) -> int | None:
        run: int | None = pull(*given, **named)
        # Without a runner, no process reads the pipe.
        if run is not None:
            with contextlib.suppress(OSError):
                pipe = os.open(wake, os.O_WRONLY | os.O_NONBLOCK)
                os.write(pipe, f"{os.getpid()}\n".encode())
                os.close(pipe)
        return run

    module._pull_and_store_message = calling


def _install_once(home: Path) -> None:
    """Unpack and check each bundle only once per node; Flower repeats this for every message."""
    module: Any = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    install = module.install_from_fab

    def once(content: bytes, **options: Any) -> None:
        done = home / f"installed-{hashlib.sha256(content).hexdigest()}"
        if not done.exists():
            install(content, **options)
            done.touch()

    module.install_from_fab = once


def _load_instead(own: str) -> None:
    """Make this process run the node's own app, whatever bundle the server sends."""
    module, _, attribute = own.partition(":")

    def loader(**_: object) -> Any:
        return lambda *bundle: getattr(importlib.import_module(module), attribute)

    importlib.import_module("flwr.supernode.runtime.run_clientapp").get_load_client_app_fn = loader  # type: ignore[attr-defined]


def _beat(module: str) -> None:
    importlib.import_module(module).HEARTBEAT_DEFAULT_INTERVAL = _HEARTBEAT_SECONDS  # type: ignore[attr-defined]


def _flower(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _command(task: str) -> str:
    (entry,) = [entry for entry in entry_points(group="console_scripts", name=task) if entry.module.startswith("flwr.")]
    return entry.value


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Run the runner with the config named by `--config`."""
    signal.signal(signal.SIGTERM, _interrupt)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
    with contextlib.suppress(KeyboardInterrupt):
        apps = [RuntimeApp(**app) for app in config["apps"]]
        wake = Path(config["wake"]) if config["wake"] else None
        Runner(config["poll"], Path(config["events"]), wake, apps).serve()


if __name__ == "__main__":
    main()
