"""A training client on an emulated Raspberry Pi: a SuperNode whose card is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wireleak.common.files import write_json
from wireleak.common.words import counted
from wireleak.lab.devices.pi.boards import BOARDS, LINKS, seen_from_guest
from wireleak.lab.devices.pi.machine import Image, Machine
from wireleak.lab.launch.processes import Launcher, Process
from wireleak.lab.run.cell import Cell

_ROOT = Path(__file__).resolve().parents[3]
# The app comes from the server; the device needs what starts it, and what the app's forks share.
PROGRAM = (
    "client",
    "wireleak/__init__.py",
    "wireleak/common",
    "wireleak/lab/__init__.py",
    "wireleak/lab/launch/__init__.py",
    "wireleak/lab/launch/endings.py",
    "wireleak/lab/launch/flower.py",
    "wireleak/lab/launch/runner.py",
    "wireleak/lab/launch/zygote.py",
    "wireleak/lab/launch/jail.py",
    "wireleak/lab/launch/parties.py",
    "wireleak/lab/devices/__init__.py",
    "wireleak/lab/devices/pi/__init__.py",
    "wireleak/lab/devices/pi/modules.py",
    "wireleak/lab/devices/pi/node.py",
)
_CONSOLE, _FOLDER = "/dev/ttyAMA0", "/run/job"
_POLL_SECONDS = 0.5


def trainer_link(cell: Cell) -> str:
    """Return the name of the capture of the Pi's card: it holds all of its traffic, Flower's and the head's."""
    return f"{'train' if cell.mode == 'split' else 'fleet'}-{cell.clients[-1]}"


def trainer_on_pi(
    cell: Cell, launcher: Launcher, image: Image, credentials: dict[str, str | None]
) -> Callable[[str], Process]:
    """Return a function that boots a Pi as the cell's last client, given the SuperLink's address.

    Parameters
    ----------
    cell : Cell
    launcher : Launcher
    image : Image
        A system with torch and Flower.
    credentials : dict
        Paths of the device's "ca", "certificate" and "key", None where its links do not need them.
    """
    device, name = cell.trainer, cell.clients[-1]
    assert device is not None

    def start(superlink: str) -> Process:
        given = {key: Path(path) for key, path in credentials.items() if path is not None}
        config = _guest_config(json.loads(cell.config(name).read_text()), given)
        node = {
            "superlink": seen_from_guest(superlink),
            "node": f'config="{_FOLDER}/config.json"',
            "root_certificates": f"{_FOLDER}/ca.pem" if "ca" in given else None,
            "runtime": "127.0.0.1:9094",
            "poll": _POLL_SECONDS,
            "home": "/run/flower",
            "events": _CONSOLE,
        }
        run = f"exec python3 -m wireleak.lab.devices.pi.node node.json > {_CONSOLE} 2>&1\n"
        files: dict[str, Path | bytes] = {path: _ROOT / path for path in PROGRAM}
        files |= {f"{key}.pem": path for key, path in given.items()}
        files |= {"train.npz": cell.train(name), "evaluation.npz": cell.evaluation(name)}
        files |= {
            "config.json": write_json(cell.device_config(device.name), config),
            "node.json": write_json(cell.device_node(device.name), node),
            "run": run.encode(),
        }
        machine = Machine(
            image,
            BOARDS[device.board],
            cell.device(device.name),
            cell.log(name),
            memory=device.memory,
            capture=cell.capture(trainer_link(cell)),
            netem=LINKS[device.link],
        )
        return machine.start(launcher, name, files).process

    return start


def said_of_trainer(cell: Cell) -> list[str]:
    """Return a line for people on the Pi that trained, from the events on its console."""
    if cell.trainer is None:
        return []
    events = []
    for line in cell.log(cell.clients[-1]).read_text(errors="replace").splitlines():
        if line.startswith('{"name"'):
            events.append(json.loads(line))
    if not events:
        return []
    seconds = [event["seconds"] for event in events]
    return [
        f"{cell.name}: {cell.clients[-1]} was a SuperNode on an emulated {BOARDS[cell.trainer.board].title} "
        f"({cell.trainer.memory} MiB); {counted(len(events), 'message')}, {min(seconds):.1f} to {max(seconds):.1f} s "
        f"each, its app at most {max(event['rss'] for event in events) / 2**20:.0f} MiB"
    ]


def _guest_config(config: dict[str, Any], given: dict[str, Path]) -> dict[str, Any]:
    """Return a client's config with the addresses and paths of the emulated system."""
    security = {key: f"{_FOLDER}/{key}.pem" if key in given else None for key in ("ca", "certificate", "key")}
    head = config["head"]
    link = head and head | {"address": seen_from_guest(head["address"]), "security": security}
    paths = {key: f"{_FOLDER}/{key}.npz" for key in ("train", "evaluation")}
    # It cannot hand over files while it runs, so the record of its labels goes to the console.
    ledger = _CONSOLE if config["ledger"] is not None else None
    return config | paths | {"head": link, "keep": "/run/kept", "ledger": ledger, "answers": None}
