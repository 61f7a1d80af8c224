"""A session: start head, tap, gateway and eavesdropper, and end all of them together."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from wireleak.common.files import write_json
from wireleak.common.wire.channel import IPV4_LOOPBACK, LOOPBACK, MAX_MESSAGE_BYTES
from wireleak.lab.launch.granted import jail_of
from wireleak.lab.launch.jail import Jail, gap
from wireleak.lab.launch.processes import Launcher, Process
from wireleak.lab.launch.watch import say, working_on
from wireleak.lab.run.layout import CellFolder
from wireleak.lab.serve.source import Source, check_for_page, open_source, trained_run
from wireleak.lab.steps.capture import PLAINTEXT
from wireleak.lab.study.schema import StudyError

PAGES = Path(__file__).resolve().parents[3] / "client" / "web" / "dist"
_ANY = ("0.0.0.0", "::")
# Calls that head and gateway answer at once; all calls of browsers reach the head over one connection.
_CALLS = 64
# Most examples in one message of a browser.
_BATCH = 256


@dataclass(frozen=True)
class Wanted:
    """The user's wishes.

    Parameters
    ----------
    run : Path or None
        A finished run's folder; None takes or trains the small study.
    variants : tuple of str or None
        The run's variants, each with its own link and page; None is the first that finished.
    seed : int or None
        The seed; by default the variant's first.
    web : bool
        Serve the page, too.
    host : str
        Address to listen on.
    port : int
        Port of the first tap; its live eavesdropper takes the next one, and so on for further variants.
    out : Path
        Folder for the session's own folder.
    names : tuple of str
        More names of this machine, as an emulator's 10.0.2.2.
    peer_calls : int
        Most calls of one connection at once.
    idle, age : float
        Seconds without a message, and seconds in all, after which a call is ended.
    """

    run: Path | None
    variants: tuple[str | None, ...]
    seed: int | None
    web: bool
    host: str
    port: int
    out: Path
    names: tuple[str, ...] = ()
    peer_calls: int = 32
    idle: float = 60.0
    age: float = 3600.0

    @property
    def ports(self) -> tuple[int, ...]:
        """Every port that a browser needs."""
        return tuple(range(self.port, self.port + 2 * len(self.variants)))

    @property
    def hosts(self) -> list[str]:
        """Names under which a browser may open the page."""
        return list(dict.fromkeys([*IPV4_LOOPBACK, *self._own_hosts(), *self.names]))

    def _own_hosts(self) -> list[str]:
        if self.host not in _ANY:
            return [self.host]
        held = [one for found in psutil.net_if_addrs().values() for one in found]
        addresses = [one.address for one in held if one.family == socket.AF_INET]
        return [socket.gethostname(), *addresses]


class Session:
    """The processes that serve one network.

    Parameters
    ----------
    wanted : Wanted
    source : Source
        The network.
    port : int
        Port of its tap.
    cuts : list of dict
        All cuts that are served, for the page.
    launcher : Launcher
        Starts every process.

    Attributes
    ----------
    address : str
        Address of the tap: the only one that devices know.
    """

    def __init__(
        self, wanted: Wanted, source: Source, port: int, cuts: list[dict[str, int]], launcher: Launcher
    ) -> None:
        self._wanted = wanted
        self.source = source
        self.port = port
        self._cuts = cuts
        self._files = CellFolder(source.encoder.folder.parent)
        self._launcher = launcher
        self.capture = self._files.capture("web" if wanted.web else "devices")
        head = self._start_head()
        upstream = self._start_gateway(head) if wanted.web else head
        self.address = self._start_tap(upstream)
        if wanted.web:
            self._start_eavesdropper()

    def _start_head(self) -> str:
        trained = json.loads(self.source.cell.config("server").read_text())
        own = {
            "address": "127.0.0.1:0",
            "security": PLAINTEXT,
            "ready": str(self._files.ready("server")),
            "checkpoints": str(self.source.cell.checkpoints),
            "history": str(self._files.history),
            "initial": None,
            "record": None,
            "limits": self._limits() | ({"peer_streams": _CALLS} if self._wanted.web else {}),
        }
        return str(self._start("head", "server", ["server", "head"], trained | own)["address"])

    def _limits(self) -> dict[str, Any]:
        wanted = self._wanted
        return {"streams": _CALLS, "peer_streams": wanted.peer_calls, "idle": wanted.idle, "age": wanted.age}

    def _start_gateway(self, head: str) -> str:
        config = {
            "head": head,
            "address": "127.0.0.1:0",
            "limits": self._limits(),
            "largest": min(MAX_MESSAGE_BYTES, (1 << 20) + 4 * _BATCH * math.prod(self.source.encoder.activation_shape)),
            "ready": str(self._files.ready("gateway")),
            "pages": str(PAGES),
            "encoder": str(self.source.encoder.folder.resolve()),
            "hosts": self._wanted.hosts,
            "eavesdropper": self.port + 1,
            "title": self.source.title,
            "cuts": self._cuts,
        }
        return str(self._start("gateway", "gateway", ["server", "gateway"], config, connect=[head])["address"])

    def _start_tap(self, upstream: str) -> str:
        self.capture.parent.mkdir(parents=True)
        link = {
            "name": self.capture.stem,
            "listen": _address(self._wanted.host, self.port),
            "upstream": upstream,
            "capture": str(self.capture),
        }
        config = {"links": [link], "ready": str(self._files.ready("tap"))}
        ready = self._start("tap", "tap", ["adversary", "relay"], config, connect=[upstream], port=self.port)
        return str(ready["links"][self.capture.stem])

    def _start_eavesdropper(self) -> None:
        cell, port = self.source.cell, self.port
        config = {
            "capture": str(self.capture),
            "device": [str(cell.capture("serve-attacker"))],
            "surrogate": str(cell.surrogate),
            "seed": int(cell.seed),
            "address": _address(self._wanted.host, port + 1),
            "ready": str(self._files.ready("adversary")),
            "origins": [f"http://{_address(host, port)}" for host in self._wanted.hosts],
        }
        # The tap may not have made the capture yet.
        reads = (self.capture.parent,)
        self._start("eavesdropper", "adversary", ["adversary", "live"], config, port=port + 1, reads=reads)

    def _start(
        self,
        name: str,
        party: str,
        argv: list[str],
        content: dict[str, Any],
        *,
        connect: Sequence[str] = (),
        port: int = 0,
        reads: tuple[Path, ...] = (),
    ) -> dict[str, Any]:
        """Start a process that lasts, in its jail, and return what it writes once it listens; port 0 is any."""
        config = write_json(self._files.config(party), content)
        command = ["-m", *argv, "--config", str(config)]
        jail = jail_of(config, content, config.parent, connect=connect) | Jail(reads, listen=(port,), sockets=True)
        process: Process = self._launcher.start(
            f"{self.source.variant.name}-{name}", command, self._files.log(name), lasting=True, jail=jail
        )
        return self._launcher.wait_ready(process, self._files.ready(party))


def serve(wanted: Wanted, console: Console, ready: Callable[[Session], None] = lambda session: None) -> None:
    """Serve until Ctrl-C; `ready` is called with the first network's session once everything listens.

    Raises
    ------
    StudyError, DataError, ExportError, LaunchError
        The network cannot be served, or a process failed.
    """
    if wanted.web and not (PAGES / "index.html").is_file():
        raise StudyError("--web: the page is not built; run `make web` in wireleak's source tree (it needs Node.js)")
    for port in wanted.ports if wanted.web else wanted.ports[:1]:
        _check_free(wanted.host, port)
    run = wanted.run if wanted.run is not None else trained_run(wanted.out, console)
    folder = (wanted.out / f"serve-{datetime.now():%Y%m%d-%H%M%S}").resolve()
    sources = [open_source(run, variant, wanted.seed, folder) for variant in wanted.variants]
    if wanted.web:
        for source in sources:
            check_for_page(source)
    cuts = [
        {"port": port, "block": source.encoder.model.cut, "numbers": math.prod(source.encoder.activation_shape)}
        for port, source in zip(wanted.ports[::2], sources, strict=True)
    ]
    with Launcher(preload=False) as launcher:
        with working_on("starting"):
            sessions = [
                Session(wanted, source, cut["port"], cuts, launcher) for source, cut in zip(sources, cuts, strict=True)
            ]
        unheld = [f"Not enforced here: {line}." for line in [gap()] if line is not None]
        for line in [*unheld, *_instructions(wanted, sessions)]:
            say(console, line)
        ready(sessions[0])
        try:
            while True:
                launcher.check()
                time.sleep(0.2)
        except KeyboardInterrupt:
            pass
    for session in sessions:
        for line in _afterwards(session):
            say(console, line)


def _instructions(wanted: Wanted, sessions: list[Session]) -> list[str]:
    shared = wanted.host not in LOOPBACK
    lines = [f"network: {session.source.title}" for session in sessions]
    if wanted.web:
        lines += [f"page: http://{_address(host, wanted.port)}" for host in wanted.hosts if host != "127.0.0.1"]
        lines += ["camera and installing as an app need http://localhost: see wireleak android, or ssh -L"] * shared
    else:
        lines += [
            f"devices: wireleak-device {session.source.encoder.folder} --head {session.address} --input FILE"
            for session in sessions
        ]
    return [*lines, *(f"capture: {session.capture}" for session in sessions), "Ctrl-C ends every process."]


def _afterwards(session: Session) -> list[str]:
    cell = session.source.cell
    return [
        f"stopped; the capture is kept: {session.capture}",
        f"look inside: wireleak inspect {session.capture}",
        f"attack it again: wireleak attack {session.capture} --device {cell.capture('serve-attacker')} "
        f"--surrogate {cell.surrogate}",
    ]


def _check_free(host: str, port: int) -> None:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        # create_server repeats the address in its own text.
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise StudyError(f"--port: cannot listen on {_address(host, port)}: {reason}; choose another --port") from None


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
