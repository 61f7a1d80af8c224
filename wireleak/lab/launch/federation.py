"""A Flower deployment on loopback: a SuperLink, a SuperNode for each client, and the runner of their apps."""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from wireleak.common.files import write_json
from wireleak.lab.launch import flower
from wireleak.lab.launch.bundle import Value, flower_config, write_app
from wireleak.lab.launch.certificates import Identity
from wireleak.lab.launch.endings import Ends, describe_status, explain_end, telling_line
from wireleak.lab.launch.flower_folder import SERVERAPP, SUPERLINK, FlowerFolder
from wireleak.lab.launch.flower_jail import Host, flower_jail, runner_setup
from wireleak.lab.launch.jail import Jail
from wireleak.lab.launch.processes import Launcher, LaunchError, Process

_log = logging.getLogger(__name__)
_PORT_TAKEN = re.compile(r"already in use|error while attempting to bind", re.IGNORECASE)
_ATTEMPTS = 4
_REGISTERED = "SuperNode ID:"
_ELSEWHERE_SECONDS = 900.0  # an emulated machine imports for minutes
_ASK_SECONDS = 0.25  # seconds between two questions of the runner to every node, whether an app must start


@dataclass(frozen=True)
class Node:
    """A SuperNode: its name, and the `node_config` that its ClientApp reads.

    `app`, "module:attribute", is a ClientApp of its own, which it runs instead of the bundle that it receives. `start`
    starts a node elsewhere, which runs its apps itself: it gets the address to connect to, and returns a process whose
    log has the node's lines.
    """

    name: str
    config: Mapping[str, Value]
    app: str | None = None
    start: Callable[[str], Process] | None = None


@dataclass(frozen=True)
class _Daemon:
    """A daemon: how to start its process on a port, the log line which shows that it serves, and what it reaches."""

    name: str
    argv: tuple[str, ...]
    serving: str
    connect: tuple[str, ...] = ()


@dataclass
class Federation:
    """A SuperLink and its nodes, for one run at a time. Use it as a context manager, inside that of its launcher.

    Parameters
    ----------
    launcher : Launcher
        Starts the processes.
    folder : Path
        Logs go to `logs/`, Flower's private homes to `flower/`.
    nodes : sequence of Node
        The clients.
    tls : Identity, optional
        The SuperLink's certificate; with it, its Fleet and Control links use TLS. The loopback link of app processes
        to a SuperNode stays plaintext.
    app : Path, optional
        Folder of a Flower app. By default wireleak's own, copied from its installation.
    isolation : "process" or "subprocess"
        "process": our runner starts the apps; if it cannot drive this Flower, a line is logged and Flower starts them.
        "subprocess": Flower starts them.
    poll : float or None
        Longest wait, in seconds, of the ServerApp between two checks for messages, and of nodes that no process of this
        machine can wake. None: Flower's own, 3 s. Ignored with "subprocess".
    """

    launcher: Launcher
    folder: Path
    nodes: Sequence[Node]
    tls: Identity | None = None
    app: Path | None = None
    isolation: Literal["process", "subprocess"] = "process"
    poll: float | None = 0.2
    fleet_address: str = field(default="", init=False)
    _superlink: Process | None = field(default=None, init=False)
    _supernodes: dict[str, Process] = field(default_factory=dict, init=False)
    _others: list[Process] = field(default_factory=list, init=False)
    _runtimes: dict[str, str] = field(default_factory=dict, init=False)
    _wake: Path | None = field(default=None, init=False)
    _ends: Ends = field(init=False)
    _files: FlowerFolder = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.absolute()
        for part in ("logs", "flower"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self._files = FlowerFolder(self.folder)
        self._ends = Ends(self.events)
        if self.isolation == "process" and (reason := flower.unavailable()) is not None:
            _log.warning(
                "Our runner cannot drive this Flower, so Flower starts the app processes, which takes longer: %s",
                reason,
            )
            self.isolation = "subprocess"
        if self.isolation == "subprocess" and (own := [node.name for node in self.nodes if node.app]):
            raise LaunchError(
                f"{own[0]}: a node with its own app needs isolation 'process' and a Flower that our runner can drive"
            )
        # Without `poll`, nodes are Flower's own program, which does not call the runner.
        if self.isolation == "process" and self.poll is not None:
            self._wake = flower.make_pipe(self._files.wake)
            flower.make_pipe(self._files.bell(SERVERAPP))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except KeyboardInterrupt:
            self.launcher.kill()
            raise

    @property
    def events(self) -> Path:
        """JSON lines, one for each app process that has ended; see `wireleak.lab.launch.runner`."""
        return self._files.events

    def start_superlink(self, timeout: float = 60.0) -> str:
        """Start the SuperLink and return the address of its Fleet API, for nodes or a tap to connect to.

        Raises
        ------
        LaunchError
            It ended, or did not serve within `timeout` seconds.
        """
        security: tuple[str, ...] = ("--insecure",)
        if self.tls is not None:
            security = ("--ssl-ca-certfile", str(self.tls.ca), "--ssl-certfile", str(self.tls.certificate))
            security += ("--ssl-keyfile", str(self.tls.key))
        own = self.isolation == "process" and self.poll is not None
        entry = "wireleak.lab.launch.flower:superlink" if own else "flwr.superlink.cli:flower_superlink"
        isolation = ("--isolation", self.isolation, "--disable-runtime-dependency-installation")
        daemon = _Daemon(SUPERLINK, (entry, *security, *isolation), "Uvicorn running on")
        self._superlink = self._bring_up([daemon], timeout, fleet=True)[SUPERLINK]
        self._superlink.essential = True
        self._files.write_connection(self._runtimes[SUPERLINK], self.tls)
        return self.fleet_address

    def start_nodes(
        self,
        addresses: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        jails: Mapping[str, Jail] | None = None,
    ) -> None:
        """Start all nodes and the runner, and wait until every node is registered with the SuperLink.

        Parameters
        ----------
        addresses : mapping, optional
            The address to which each node, by name, connects instead of the SuperLink: its tap.
        timeout : float
            In seconds.
        jails : mapping, optional
            What each node's app may read, write and reach, by the node's name, and the same of the ServerApp under
            `SERVERAPP`; Flower's files and links are added. Without it, apps may do what the lab may.

        Raises
        ------
        LaunchError
            A node ended, or was not registered within `timeout` seconds.
        """
        own = self.isolation == "process" and self.poll is not None
        entry = "wireleak.lab.launch.flower:supernode" if own else "flwr.supernode.cli:flower_supernode"
        security = ("--root-certificates", str(self.tls.ca)) if self.tls is not None else ("--insecure",)
        daemons = []
        elsewhere: dict[str, Process] = {}
        for node in self.nodes:
            address = (addresses or {}).get(node.name, self.fleet_address)
            if node.start is not None:
                elsewhere[node.name] = node.start(address)
                continue
            config = ("--isolation", self.isolation, "--node-config", flower_config(node.config))
            argv = (entry, *security, "--superlink", address, *config)
            daemons.append(_Daemon(node.name, argv, _REGISTERED, (address,)))
        if daemons:
            self._supernodes.update(self._bring_up(daemons, timeout))
        for name, process in elsewhere.items():
            self._await_other(name, process)
        if self.isolation == "process":
            self._start_runner(jails)
        self._supernodes.update(elsewhere)
        for process in self._supernodes.values():
            process.essential = True

    def _await_other(self, name: str, process: Process) -> None:
        def registered() -> bool:
            if process.poll() is not None:
                raise LaunchError(process.describe_end(), process.log)
            return _says(process, _REGISTERED)

        self.launcher.wait_until(registered, _ELSEWHERE_SECONDS, f"{name}: the start", process.log)

    def run_app(self, run_config: Mapping[str, Value], timeout: float, progress: Path | None = None) -> None:
        """Run the Flower app and wait for its end, watching every essential process of the launcher's.

        A node that died before ends the run. Later, the other nodes go on without it; see `lost`.

        Parameters
        ----------
        run_config : mapping
        timeout : float
            In seconds; with `progress`, since the app last changed that file.
        progress : Path, optional
            A file that the app writes after each round.

        Raises
        ------
        LaunchError
            The run failed or took longer than `timeout` seconds, an essential process died, or every node did.
        """
        before = len(self._ends.statuses())
        run = self._submit(run_config, timeout)
        for node in self._supernodes.values():
            node.essential = False
        log = self._server_log()

        def end() -> str | None:
            if self._supernodes and all(node.poll() is not None for node in self._supernodes.values()):
                self.launcher.check()
                last = list(self._supernodes.values())[-1]
                raise LaunchError(f"every client has died; {last.describe_end()}", last.log)
            return self._listed_end(run) if self.isolation == "subprocess" else self._forked_end(before)

        if (outcome := self.launcher.wait_until(end, timeout, "training", log, progress)) != "completed":
            raise LaunchError(f"the ServerApp {outcome}", log)

    def node(self, name: str) -> Process:
        """Return the SuperNode's process. When it is killed, its ClientApp ends, and the round continues without it."""
        return self._supernodes[name]

    def lost(self) -> list[str]:
        """Return how each node, and each ClientApp of the others, ended that died or failed, in one line each."""
        apps = self._ends.failed()
        # A node's end also ends its app.
        nodes = {name: node.poll() or 0 for name, node in self._supernodes.items() if node.failed}
        apps = {name: status for name, status in apps.items() if name.removesuffix("-app") not in nodes}
        return [explain_end(name, status, self._files.log(name)) for name, status in (nodes | apps).items()]

    def node_id(self, name: str) -> str:
        """Return Flower's id of a started node, read from its log."""
        match = re.search(rf"{_REGISTERED} *(\d+)", self._supernodes[name].log.read_text(errors="replace"))
        if match is None:
            raise LaunchError(f"{name}: its log holds no node id", self._supernodes[name].log)
        return match[1]

    def stop(self, grace: float = 2.0) -> None:
        """End all but the SuperLink together, then the SuperLink; each time, kill the rest after `grace` seconds."""
        self.launcher.stop([*self._others, *self._supernodes.values()], grace)
        if self._superlink is not None:
            self.launcher.stop([self._superlink], grace)

    def _bring_up(self, daemons: Sequence[_Daemon], timeout: float, *, fleet: bool = False) -> dict[str, Process]:
        """Start daemons on free ports until all serve; start those again whose port was taken meanwhile."""
        up: dict[str, Process] = {}
        waiting = list(daemons)
        for _ in range(_ATTEMPTS):
            started = {daemon: self._spawn(daemon, fleet=fleet) for daemon in waiting}

            def settled(started: dict[_Daemon, Process] = started) -> bool:
                return all(process.poll() is not None or _says(process, d.serving) for d, process in started.items())

            first = next(iter(started.values()))
            self.launcher.wait_until(settled, timeout, f"{first.name}: the start", first.log)
            waiting = [daemon for daemon, process in started.items() if process.poll() is not None]
            up.update({daemon.name: process for daemon, process in started.items() if daemon not in waiting})
            for daemon in waiting:
                if not _PORT_TAKEN.search(started[daemon].log.read_text(errors="replace")):
                    raise LaunchError(started[daemon].describe_end(), started[daemon].log)
            if not waiting:
                return up
        raise LaunchError(
            f"{waiting[0].name}: found no free port in {_ATTEMPTS} attempts; end other programs and run again"
        )

    def _spawn(self, daemon: _Daemon, *, fleet: bool) -> Process:
        port, fleet_port = free_ports(2)
        argv = [*daemon.argv, "--host", "127.0.0.1", "--port", str(port)]
        self._runtimes[daemon.name] = f"127.0.0.1:{port}"
        if fleet:
            self.fleet_address = f"127.0.0.1:{fleet_port}"
            argv += ["--fleet-api-address", self.fleet_address]
        log = self._files.log(daemon.name)
        # Ignore the lines that an earlier attempt logged.
        log.unlink(missing_ok=True)
        env = {"FLWR_HOME": str(self._files.home(daemon.name)), **self._poll_setting()}
        if self._wake is not None:
            env[flower.WAKE] = str(self._wake)
            env[flower.SENT] = str(self._files.bell(SERVERAPP))
            if not fleet and (bell := flower.make_pipe(self._files.bell(daemon.name))):
                env[flower.BELL] = str(bell)
        jail = flower_jail(
            self._files.home(daemon.name),
            self.tls,
            pipes=() if fleet else (self._wake, self._files.bell(SERVERAPP), self._files.bell(daemon.name)),
            connect=daemon.connect,
            listen=(port, fleet_port) if fleet else (port,),
            serves_tls=fleet,
        )
        # Apps that Flower starts would be in the jail of its daemons.
        held = jail if self.isolation == "process" else None
        # It becomes essential only when it serves, because an attempt on a taken port may fail.
        return self.launcher.start(
            daemon.name, argv, log, env, self.folder, lasting=True, essential=False, early=True, jail=held
        )

    def _start_runner(self, jails: Mapping[str, Jail] | None) -> None:
        assert self._superlink is not None
        hosts = [Host(SERVERAPP, self._runtimes[SUPERLINK], self._superlink.pid)]
        own = {node.name: node.app for node in self.nodes}
        hosts += [Host(name, self._runtimes[name], node.pid, own[name]) for name, node in self._supernodes.items()]
        poll = _ASK_SECONDS if self.poll is None else min(_ASK_SECONDS, self.poll)
        config, jail = runner_setup(self._files, hosts, self.tls, jails, poll=poll, calls=self._wake is not None)
        argv = ["-m", "wireleak.lab.launch.runner", "--config", str(write_json(self._files.runner, config))]
        log = self._files.log("runner")
        process = self.launcher.start("runner", argv, log, self._poll_setting(), self.folder, lasting=True, jail=jail)
        self._others.append(process)

    def _submit(self, run_config: Mapping[str, Value], timeout: float) -> str:
        app = self.app if self.app is not None else write_app(self._files.app)
        process = self._flwr("submit", ["run", str(app), "lab", "--run-config", flower_config(run_config)], app)
        self.launcher.finish(process, timeout)
        match = re.search(r"started run (\d+)", process.log.read_text())
        if match is None:
            raise LaunchError(process.describe_end(), process.log)
        return match[1]

    def _flwr(self, name: str, arguments: list[str], *read: Path) -> Process:
        log = self._files.log(name)
        log.unlink(missing_ok=True)
        env = {"FLWR_HOME": str(self._files.home("control"))}
        argv = ["flwr.cli.app:app", *arguments]
        jail = flower_jail(self._files.home("control"), self.tls, connect=[self._runtimes[SUPERLINK]]) | Jail(read)
        process = self.launcher.start(f"flwr {arguments[0]}", argv, log, env, self.folder, early=True, jail=jail)
        self._others.append(process)
        return process

    def _forked_end(self, before: int) -> str | None:
        ends = self._ends.statuses()[before:]
        if not ends:
            return None
        return f"{describe_status(ends[0])}: {telling_line(self._server_log())}" if ends[0] else "completed"

    def _listed_end(self, run: str) -> str | None:
        time.sleep(1)
        listing = self._flwr("list", ["list", "lab", "--run-id", run, "--format", "json"])
        self.launcher.finish(listing, 30)
        (entry,) = json.loads(listing.log.read_text())["runs"]
        status, _, reason = str(entry["status"]).partition(":")
        if status != "finished":
            return None
        return "completed" if reason == "completed" else f"{reason}: {entry['status-details']}"

    def _server_log(self) -> Path:
        # Flower discards the ServerApp's output.
        return self._files.log(SUPERLINK if self.isolation == "subprocess" else SERVERAPP)

    def _poll_setting(self) -> dict[str, str]:
        return {} if self.poll is None else {flower.POLL: str(self.poll)}


def free_ports(count: int) -> list[int]:
    """Return distinct TCP ports of loopback that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _says(process: Process, line: str) -> bool:
    return process.log.exists() and line in process.log.read_text(errors="replace")
