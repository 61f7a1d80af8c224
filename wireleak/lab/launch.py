"""Launch one cell: head, Flower, devices, and the tap on every link; what remains is its captures."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wireleak.files import write_json
from wireleak.lab.cell import DEVICES, UNTRAINED, Cell
from wireleak.lab.certificates import Authority, Identity
from wireleak.lab.federation import Federation, Node
from wireleak.lab.processes import Launcher, Process

PLAINTEXT = {"ca": None, "certificate": None, "key": None}


def capture_cell(cell: Cell, launcher: Launcher, say: Callable[[str], None]) -> None:
    """Run a cell's processes to the end and leave its captures.

    Parameters
    ----------
    cell : Cell
        Its data files must have been written.
    launcher : Launcher
        Starts every process.
    say : callable
        Told what happens, a few words at a time.

    Raises
    ------
    LaunchError
        A process failed; what was captured until then stays.
    """
    security = _Security(cell)
    started: list[Process] = []
    federation = Federation(launcher, cell.folder, _nodes(cell), tls=security.fleet, poll=0.5)
    try:
        say("starting")
        head, address = _start_head(cell, launcher, security)
        started.append(head)
        fleet = federation.start_superlink()
        tap, links = _start_tap(cell, launcher, address, fleet)
        started.append(tap)
        for name in cell.clients:
            _write_client(cell, name, links[f"train-{name}"], security)
        federation.start_nodes({name: links[f"fleet-{name}"] for name in cell.clients})
        if cell.serves_untrained:
            say("serving untrained")
            _serve(cell, launcher, links, security, prefix=UNTRAINED)
        say("training")
        federation.run_app({"config": str(cell.folder / "server" / "config.json")}, timeout=cell.study.system.timeout)
        say("serving")
        _serve(cell, launcher, links, security)
    finally:
        say("stopping")
        federation.stop()
        launcher.stop(reversed(started))
    write_json(cell.done, {"links": sorted(links), "finished": time.time()})


class _Security:
    """Who has which certificate: the "security" part of each party's config."""

    def __init__(self, cell: Cell) -> None:
        self.fleet: Identity | None = None
        self.server: dict[str, Any] = dict(PLAINTEXT)
        self.client: dict[str, Any] = dict(PLAINTEXT)
        if cell.variant.encrypted:
            mutual = cell.variant.link == "mtls"
            authority = Authority(cell.folder / "certificates")
            self.fleet = authority.server("server")
            ca = str(self.fleet.ca)
            own = {"certificate": str(self.fleet.certificate), "key": str(self.fleet.key)}
            self.server = {"ca": ca if mutual else None, **own}
            self.client = PLAINTEXT | {"ca": ca}
            if mutual:
                device = authority.client("device")
                self.client |= {"certificate": str(device.certificate), "key": str(device.key)}


def _nodes(cell: Cell) -> list[Node]:
    return [Node(name, {"config": str(cell.folder / name / "config.json")}) for name in cell.clients]


def _start_head(cell: Cell, launcher: Launcher, security: _Security) -> tuple[Process, str]:
    folder, system = cell.folder / "server", cell.study.system
    ready = folder / "ready.json"
    config = write_json(
        folder / "config.json",
        {
            "model": cell.model(),
            "mode": cell.mode,
            "address": "127.0.0.1:0",
            "security": security.server,
            "ready": str(ready),
            "max_batch": 1024,
            "rounds": system.rounds,
            "clients": len(cell.clients),
            "learning_rate": system.learning_rate,
            "timeout": system.timeout,
            "seed": cell.seed,
            "checkpoints": str(cell.checkpoints),
            "history": str(folder / "history.json"),
        },
    )
    if cell.variant.server == "hijack":
        return _start_hijack(cell, launcher, security, ready)
    process = launcher.start(
        "head", ["-m", "server", "head", "--config", str(config)], log=cell.log("head"), lasting=True
    )
    return process, str(launcher.wait_ready(process, ready)["address"])


def _start_hijack(cell: Cell, launcher: Launcher, security: _Security, ready: Path) -> tuple[Process, str]:
    """The malicious server in the head's place: the ServerApp and the clients cannot tell."""
    config = write_json(
        cell.hijack / "config.json",
        {
            "model": cell.model(),
            "address": "127.0.0.1:0",
            "security": security.server,
            "ready": str(ready),
            "checkpoints": str(cell.checkpoints),
            "max_batch": 1024,
            "surrogate": str(cell.surrogate),
            "out": str(cell.hijack),
            "seed": cell.seed,
            "options": cell.variant.server_options,
        },
    )
    argv = ["-m", "adversary", "hijack", "--config", str(config)]
    process = launcher.start("hijack", argv, log=cell.log("hijack"), lasting=True)
    return process, str(launcher.wait_ready(process, ready)["address"])


def _start_tap(cell: Cell, launcher: Launcher, head: str, fleet: str) -> tuple[Process, dict[str, str]]:
    prefixes = (UNTRAINED, "") if cell.serves_untrained else ("",)
    upstreams = {f"fleet-{name}": fleet for name in cell.clients}
    upstreams |= {f"train-{name}": head for name in cell.clients} if cell.mode == "split" else {}
    upstreams |= {f"{prefix}serve-{device}": head for prefix in prefixes for device in DEVICES}
    ready = cell.folder / "tap" / "ready.json"
    links = [
        {"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "capture": str(cell.capture(name))}
        for name, upstream in upstreams.items()
    ]
    config = write_json(cell.folder / "tap" / "config.json", {"links": links, "ready": str(ready)})
    process = launcher.start(
        "tap", ["-m", "adversary", "relay", "--config", str(config)], log=cell.log("tap"), lasting=True
    )
    addresses: dict[str, str] = launcher.wait_ready(process, ready)["links"]
    # Nobody trains through the head in federated mode, but a client's config still names it.
    return process, {f"train-{name}": head for name in cell.clients} | addresses


def _write_client(cell: Cell, name: str, head: str, security: _Security) -> None:
    folder, system = cell.folder / name, cell.study.system
    privacy = cell.study.privacy_of(cell.variant)
    write_json(
        folder / "config.json",
        {
            "model": cell.model(),
            "mode": cell.mode,
            "train": str(folder / "train.npz"),
            "evaluation": str(folder / "evaluation.npz"),
            "head": {"address": head, "security": security.client},
            "epochs": system.epochs,
            "batch": system.batch,
            "learning_rate": system.learning_rate,
            "seed": cell.seed,
            "transforms": _transforms(cell),
            "objective": cell.study.objective_of(cell.variant),
            "watch": cell.variant.watch,
            "privacy": privacy.model_dump() if privacy else None,
        },
    )


def _transforms(cell: Cell) -> list[dict[str, Any]]:
    return [step.model_dump() for step in cell.variant.transforms]


def _serve(cell: Cell, launcher: Launcher, links: dict[str, str], security: _Security, prefix: str = "") -> None:
    """Both devices serve their inputs at once; with `prefix`, through the untrained encoder."""
    processes = []
    for device in DEVICES:
        folder = cell.device(device)
        encoder = folder / f"{prefix}encoder.safetensors"
        if not prefix:
            shutil.copyfile(cell.checkpoints / f"encoder-{cell.study.system.rounds}.safetensors", encoder)
        serve = cell.study.serve
        # Sizes and times of one inference say nothing unless the attacker's own device sends alike.
        alike = device == "victim" or cell.variant.encrypted
        batch = serve.victim_batch if alike else serve.attacker_batch
        config = write_json(
            folder / f"{prefix}config.json",
            {
                "model": cell.model(),
                "encoder": str(encoder),
                "inputs": str(folder / "inputs.npz"),
                "batch": batch,
                "head": {"address": links[f"{prefix}serve-{device}"], "security": security.client},
                "transforms": _transforms(cell),
                # Devices draw their noise independently of one another.
                "seed": 2 * cell.seed + DEVICES.index(device),
                "predictions": str(folder / f"{prefix}predictions.npz"),
            },
        )
        name = f"{prefix}serve-{device}"
        argv = ["-m", "client", "serve", "--config", str(config)]
        processes.append(launcher.start(name, argv, log=cell.log(name), essential=False))
    for process in processes:
        launcher.finish(process, cell.study.system.timeout)
