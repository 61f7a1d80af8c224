"""Launch one cell (head, Flower, devices, and a tap on every link) and keep its captures."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wireleak.common.files import write_json
from wireleak.lab.devices.pi.boards import HOST
from wireleak.lab.devices.pi.recipe import TRAINING
from wireleak.lab.devices.pi.system import built
from wireleak.lab.launch.certificates import Authority, Identity
from wireleak.lab.launch.federation import Federation, Node
from wireleak.lab.launch.flower_folder import SERVERAPP
from wireleak.lab.launch.granted import jail_of
from wireleak.lab.launch.jail import Jail, gap
from wireleak.lab.launch.processes import Launcher, Process
from wireleak.lab.run.cell import DEVICES, UNTRAINED, Cell
from wireleak.lab.run.layout import config_in, link_of
from wireleak.lab.steps import two_points
from wireleak.lab.steps.deal import registered
from wireleak.lab.steps.devices import serve_on_devices
from wireleak.lab.steps.trainer import trainer_on_pi

# The app of a malicious participant behind its unchanged SuperNode; the lab starts it but never imports it.
PARTICIPANT_APP = "adversary.participant.app:app"
# That of honest clients, which SuperNodes get in a bundle.
_CLIENT_APP = "client.app:app"
# Processes that no jail holds, for the first lines of a report.
_FLOWERS_APPS = "Flower starts its apps itself, so its processes can read other parties' files"
_SHARED = "the clients of a simulation share processes, which can read other parties' files"
_EMULATED = "an emulator runs as this user, outside of a jail; what it emulates has only its own files"
PLAINTEXT = {"ca": None, "certificate": None, "key": None}


def capture_cell(cell: Cell, launcher: Launcher, say: Callable[[str], None]) -> None:
    """Run a cell's processes to their end and keep its captures.

    Parameters
    ----------
    cell : Cell
        Cell whose data files have been written.
    launcher : Launcher
        Starts every process.
    say : callable
        Called with each step in a few words.

    Raises
    ------
    LaunchError
        A process failed; captures up to then are kept.
    """
    if not cell.variant.linked:
        _without_links(cell, launcher, say)
        return
    if not cell.trains:
        _serve_trained(cell, launcher, say)
        return
    security = _Security(cell)
    started: list[Process] = []
    nodes = _nodes(cell)
    if cell.trainer is not None:
        image = built(TRAINING, launcher, say)
        start = trainer_on_pi(cell, launcher, image, security.client)
        nodes[-1] = replace(nodes[-1], start=start)
    federation = Federation(launcher, cell.folder, nodes, tls=security.fleet, poll=0.5)
    devices = cell.study.serve.devices
    try:
        say("starting")
        config = _write_server(cell, security, launcher)
        address = ""
        if cell.mode == "split" or devices:
            head, address = _start_head(cell, launcher, security, config)
            started.append(head)
        fleet = federation.start_superlink()
        tap, links = _start_tap(cell, launcher, address, fleet)
        started.append(tap)
        jails = {name: _write_client(cell, name, links[f"train-{name}"], security) for name in cell.clients}
        jails[SERVERAPP] = _server_jail(cell, config)
        federation.start_nodes({name: links[f"fleet-{name}"] for name in cell.clients}, jails=jails)
        if cell.serves_untrained:
            say("serving untrained")
            _serve(cell, launcher, links, security, prefix=UNTRAINED)
        say("training")
        nodes_in_order = ",".join(federation.node_id(name) for name in cell.clients)
        # It crosses the wire, so it names no folder of the user's: the ServerApp works in the cell's folder.
        named = {"config": str(config.relative_to(cell.folder)), "nodes": nodes_in_order}
        federation.run_app(named, timeout=cell.plan.timeout, progress=cell.history)
        lost = federation.lost()
        _name_nodes(cell, federation)
        if devices:
            say("serving")
            _serve(cell, launcher, links, security)
            _audit(cell, launcher, links, security)
            if cell.devices:
                serve_on_devices(cell, launcher, address, security.client, say)
    finally:
        say("stopping")
        federation.stop()
        launcher.stop(reversed(started))
    own_apps = federation.isolation == "process"
    _finish(cell, [link_of(path) for path in cell.captures()], None if own_apps else _FLOWERS_APPS, lost)


def _finish(cell: Cell, links: list[str], free: str | None = None, lost: Sequence[str] = ()) -> None:
    """Mark the cell's captures as complete but for the clients that were lost, with every process out of a jail."""
    emulated = _EMULATED if cell.devices or cell.trainer else None
    lines = [line for line in (gap(), emulated, free) if line is not None]
    write_json(cell.done, {"links": links, "finished": time.time(), "not_enforced": lines, "lost": list(lost)})


def _name_nodes(cell: Cell, federation: Federation) -> None:
    """Map Flower's nodes to clients, and rename the files that a curious server kept of each."""
    write_json(cell.nodes, {federation.node_id(name): name for name in cell.clients})
    _name_records(cell)


def _name_records(cell: Cell) -> None:
    for node, name in json.loads(cell.nodes.read_text()).items():
        if (kept := cell.received(node)).is_dir():
            kept.rename(cell.received(name))


def _without_links(cell: Cell, launcher: Launcher, say: Callable[[str], None]) -> None:
    """Train clients without links; only what a curious server or a participant kept can be attacked."""
    say("training without links")
    security = _Security(cell)
    server = _write_server(cell, security, launcher)
    for name in cell.clients:
        _write_client(cell, name, "", security)
    content = {
        "server": str(server),
        "clients": [{"name": node.name, "app": node.app or _CLIENT_APP, **node.config} for node in _nodes(cell)],
        "nodes": str(cell.nodes),
        "usage": str(cell.usage),
    }
    config = write_json(cell.simulation, content)
    module = "simulation" if cell.variant.engine == "simulation" else "in_process"
    argv = ["-m", f"wireleak.lab.launch.{module}", "--config", str(config)]
    training = launcher.start("simulation", argv, cell.log("simulation"), essential=False)
    launcher.finish(training, cell.plan.timeout, progress=cell.history)
    _name_records(cell)
    _finish(cell, [], _SHARED)


def _serve_trained(cell: Cell, launcher: Launcher, say: Callable[[str], None]) -> None:
    """Serve a network that is already trained: no Flower, and no links but those of the serving devices."""
    security = _Security(cell)
    started: list[Process] = []
    try:
        say("starting")
        head, address = _start_head(cell, launcher, security, _write_server(cell, security, launcher))
        started.append(head)
        tap, links = _start_tap(cell, launcher, address, "")
        started.append(tap)
        if cell.serves_untrained:
            say("serving untrained")
            _serve(cell, launcher, links, security, prefix=UNTRAINED)
        say("serving")
        _serve(cell, launcher, links, security)
        _audit(cell, launcher, links, security)
    finally:
        say("stopping")
        launcher.stop(reversed(started))
    _finish(cell, [path.stem for path in cell.captures()])


class _Security:
    """Certificates of the parties: the "security" part of each party's config."""

    def __init__(self, cell: Cell) -> None:
        self.fleet: Identity | None = None
        self.server: dict[str, Any] = dict(PLAINTEXT)
        self.client: dict[str, Any] = dict(PLAINTEXT)
        if cell.variant.encrypted:
            mutual = cell.variant.link == "mtls"
            authority = Authority(cell.certificates)
            self.fleet = authority.server("server", hosts=[HOST] * bool(cell.study.devices))
            ca = str(self.fleet.ca)
            own = {"certificate": str(self.fleet.certificate), "key": str(self.fleet.key)}
            self.server = {"ca": ca if mutual else None, **own}
            self.client = PLAINTEXT | {"ca": ca}
            if mutual:
                device = authority.client("device")
                self.client |= {"certificate": str(device.certificate), "key": str(device.key)}


def _nodes(cell: Cell) -> list[Node]:
    nodes = [Node(name, {"config": str(cell.config(name))}) for name in cell.clients]
    if cell.variant.participant is not None:
        nodes[0] = Node(cell.clients[0], {"config": str(config_in(cell.participant))}, app=PARTICIPANT_APP)
    return nodes


def _write_server(cell: Cell, security: _Security, launcher: Launcher) -> Path:
    """Write the config of head and ServerApp; a malicious server first makes its initial model."""
    plan = cell.plan
    initial = None
    if cell.variant.initial is not None:
        initial = cell.initial
        content = {
            **cell.variant.initial.model_dump(),
            "model": cell.model(),
            "surrogate": str(cell.surrogate),
            "seed": cell.seed_of("initial"),
            "out": str(initial),
        }
        config = write_json(config_in(initial.parent), content)
        argv = ["-m", "adversary", "initial", "--config", str(config)]
        jail = jail_of(config, content, initial.parent)
        launcher.finish(launcher.start("initial", argv, cell.log("initial"), essential=False, jail=jail), 120)
    return write_json(
        cell.config("server"),
        {
            "model": cell.model(),
            "plan": plan.model_dump(mode="json"),
            "address": "127.0.0.1:0",
            "security": security.server,
            "ready": str(cell.ready("server")),
            # DP-SGD draws batches of random size; twice the expected size is practically never reached.
            "max_batch": max(1024, 2 * plan.batch),
            "clients": len(cell.clients),
            "registered": registered(cell),
            "seed": cell.noise_seed("server"),
            "checkpoints": str(cell.checkpoints),
            "history": str(cell.history),
            "initial": str(initial) if initial else None,
            "record": str(cell.received("")) if cell.server_records else None,
            "pad": cell.variant.pad,
        },
    )


def _start_head(cell: Cell, launcher: Launcher, security: _Security, config: Path) -> tuple[Process, str]:
    ready = cell.ready("server")
    if cell.variant.server == "hijack":
        return _start_hijack(cell, launcher, security, ready)
    argv = ["-m", "server", "head", "--config", str(config)]
    jail = jail_of(config, json.loads(config.read_text()), config.parent, listens=True)
    process = launcher.start("head", argv, cell.log("head"), lasting=True, jail=jail)
    return process, str(launcher.wait_ready(process, ready)["address"])


def _server_jail(cell: Cell, config: Path) -> Jail:
    """Return the jail of the ServerApp, which makes the head, if one runs, save and load its weights."""
    ready = cell.ready("server")
    admin = [json.loads(ready.read_text())["admin"]] if ready.is_file() else []
    return jail_of(config, json.loads(config.read_text()), config.parent, connect=admin)


def _start_hijack(cell: Cell, launcher: Launcher, security: _Security, ready: Path) -> tuple[Process, str]:
    """Start the malicious server in the head's place; ServerApp and clients see no difference."""
    content = {
        "model": cell.model(),
        "address": "127.0.0.1:0",
        "security": security.server,
        "ready": str(ready),
        "checkpoints": str(cell.checkpoints),
        "max_batch": 1024,
        "pad": cell.variant.pad,
        "surrogate": str(cell.surrogate),
        "out": str(cell.hijack),
        "seed": cell.seed_of("hijack"),
        "options": cell.variant.server_options,
    }
    config = write_json(config_in(cell.hijack), content)
    argv = ["-m", "adversary", "hijack", "--config", str(config)]
    # It is the server, so the server's folder is its own too.
    jail = jail_of(config, content, cell.hijack, also=[ready.parent], listens=True)
    process = launcher.start("hijack", argv, cell.log("hijack"), lasting=True, jail=jail)
    return process, str(launcher.wait_ready(process, ready)["address"])


def _start_tap(cell: Cell, launcher: Launcher, head: str, fleet: str) -> tuple[Process, dict[str, str]]:
    prefixes = (UNTRAINED, "") if cell.serves_untrained else ("",)
    # A Pi is recorded at its own card.
    tapped = [] if not cell.trains else cell.clients[:-1] if cell.trainer else cell.clients
    upstreams = {f"fleet-{name}": fleet for name in tapped}
    upstreams |= {f"train-{name}": head for name in tapped} if cell.mode == "split" else {}
    if cell.study.serve.devices:
        upstreams |= {f"{prefix}serve-{device}": head for prefix in prefixes for device in DEVICES}
    ready = cell.ready("tap")
    links = [
        {"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "capture": str(cell.capture(name))}
        for name, upstream in upstreams.items()
    ]
    if two_points.promise_of(cell) is not None:
        own = {"listen": "127.0.0.1:0", "upstream": head, "capture": str(two_points.capture_of(cell))}
        links.append({"name": two_points.LINK} | own)
    content = {"links": links, "ready": str(ready)}
    config = write_json(cell.config("tap"), content)
    argv = ["-m", "adversary", "relay", "--config", str(config)]
    # The auditor's capture lies in a folder of its own.
    folders = dict.fromkeys(Path(link["capture"]).parent for link in links)
    reach = [link["upstream"] for link in links]
    jail = jail_of(config, content, config.parent, also=folders, connect=reach, listens=True)
    process = launcher.start("tap", argv, cell.log("tap"), lasting=True, jail=jail)
    addresses: dict[str, str] = launcher.wait_ready(process, ready)["links"]
    # A client's config names the head in federated mode too, where nobody uses it.
    direct = {f"train-{name}": head for name in cell.clients} | {f"fleet-{name}": fleet for name in cell.clients}
    return process, direct | addresses


def _write_client(cell: Cell, name: str, head: str, security: _Security) -> Jail:
    """Write the config of a client's ClientApp, and return its jail."""
    common = {
        "model": cell.model(),
        "train": str(cell.train(name)),
        "evaluation": str(cell.evaluation(name)),
        "plan": cell.plan.model_dump(mode="json"),
        "seed": cell.noise_seed(name),
        "head": {"address": head, "security": security.client, "pad": cell.variant.pad} if head else None,
    }
    own = {
        "transforms": _transforms(cell),
        "keep": str(cell.keep(name)),
        "ledger": str(cell.trained_labels(name)) if cell.mode == "split" else None,
        "record": str(cell.kept) if cell.participant_records and name == cell.clients[0] else None,
        "answers": str(cell.answers(name)),
        "watch": cell.variant.watch,
    }
    config = write_json(cell.config(name), common | own)
    reached = [head] if cell.mode == "split" else []
    malicious = cell.variant.participant
    if malicious is not None and name == cell.clients[0]:
        granted = {
            "strategy": malicious.model_dump(include={"name", "options"}),
            "surrogate": str(cell.surrogate),
            "secret": str(cell.secret),
            "records": str(cell.records) if cell.records.is_file() else None,
            "out": str(cell.participant),
            "record": own["record"],
        }
        config = write_json(config_in(cell.participant), common | granted)
        return jail_of(config, common | granted, cell.participant, connect=reached)
    kept = [] if own["record"] is None else [cell.kept]
    return jail_of(config, common | own, config.parent, also=kept, connect=reached)


def _transforms(cell: Cell) -> list[dict[str, Any]]:
    return [step.model_dump() for step in cell.variant.transforms]


def _serve(cell: Cell, launcher: Launcher, links: dict[str, str], security: _Security, prefix: str = "") -> None:
    """Serve the inputs of both devices at once; with `prefix`, through the untrained encoder."""
    processes = []
    for device in DEVICES:
        encoder = cell.encoder(device, prefix)
        if not prefix:
            shutil.copyfile(cell.checkpoint("encoder", cell.plan.rounds), encoder)
        serve = cell.study.serve
        # Sizes and times are comparable only if the attacker's device sends in the same batches.
        alike = device == "victim" or cell.variant.encrypted
        name = f"{prefix}serve-{device}"
        own = {"encoder": str(encoder), "batch": serve.victim_batch if alike else serve.attacker_batch}
        processes.append(_start_device(cell, launcher, name, device, links[name], security, own, prefix))
    for process in processes:
        launcher.finish(process, cell.plan.timeout, progress=cell.capture(process.name))


def _audit(cell: Cell, launcher: Launcher, links: dict[str, str], security: _Security) -> None:
    """Have the auditor's device send two known activations, where noise promises an epsilon."""
    device = two_points.LINK
    if device not in links:
        return
    own = {"encoder": str(cell.encoder("victim")), "batch": two_points.BATCH, "activations": True}
    process = _start_device(cell, launcher, "serve-audit", device, links[device], security, own)
    launcher.finish(process, cell.plan.timeout, progress=cell.capture(device))
    two_points.read_pairs(cell, launcher)


def _start_device(
    cell: Cell,
    launcher: Launcher,
    name: str,
    device: str,
    address: str,
    security: _Security,
    own: dict[str, Any],
    prefix: str = "",
) -> Process:
    """Start a serving device in its jail; `own` is what its config has besides that of every device."""
    content = {
        "model": cell.model(),
        "inputs": str(cell.inputs(device)),
        "head": {"address": address, "security": security.client, "pad": cell.variant.pad},
        "transforms": _transforms(cell),
        "seed": cell.noise_seed(f"{prefix}{device}"),
        "predictions": str(cell.predictions(device, prefix)),
    } | own
    config = write_json(cell.device_config(device, prefix), content)
    argv = ["-m", "client", "serve", "--config", str(config)]
    jail = jail_of(config, content, config.parent, connect=[address])
    return launcher.start(name, argv, cell.log(name), essential=False, jail=jail)
