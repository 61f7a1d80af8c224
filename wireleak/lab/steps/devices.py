"""Serve a cell's inputs on emulated devices beside the host's own, and compare what they sent and received."""

from __future__ import annotations

import json
import math
import shlex
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wireleak.common.files import write_arrays, write_atomically, write_json
from wireleak.common.words import counted
from wireleak.lab.devices.export import Own, export_network
from wireleak.lab.devices.pi.boards import BOARDS, LINKS, seen_from_guest
from wireleak.lab.devices.pi.machine import CORES, Machine, Outcome, Running
from wireleak.lab.devices.pi.recipe import DEVICE, TRAINING, Recipe
from wireleak.lab.devices.pi.system import built, missing
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.job import shown_variant
from wireleak.lab.run.results import DeviceUse
from wireleak.lab.steps.wires import extract
from wireleak.lab.study.schema import Study, StudyError
from wireleak.lab.study.tables import Device

SERVE_SECONDS = 900.0
# torch's exporter keeps its state in globals, and cells run in threads.
_EXPORTING = threading.Lock()
_ROOT = Path(__file__).resolve().parents[3]
# All of wireleak that a device needs.
PROGRAM = (
    "client/__init__.py",
    "client/device",
    "wireleak/__init__.py",
    "wireleak/common/wire",
    "wireleak/common/words.py",
)
_ENCODER, _RECORD = "encoder", "record.npz"


def check_devices(study: Study) -> None:
    """Refuse emulated devices on a machine that cannot emulate them, before anything starts.

    Raises
    ------
    StudyError
        A program is missing; the message names it and the fix.
    """
    for recipe in recipes(study):
        if (problem := missing(recipe)) is not None:
            raise StudyError(f"devices.{study.devices[0].name}: {problem}")


def recipes(study: Study) -> list[Recipe]:
    """Return the systems that a study's emulated devices need."""
    roles = {device.role for device in study.devices}
    return [recipe for role, recipe in (("serve", DEVICE), ("train", TRAINING)) if role in roles]


def serve_on_devices(
    cell: Cell, launcher: Launcher, head: str, credentials: dict[str, str | None], say: Callable[[str], None]
) -> None:
    """Serve the victim's inputs on each of a cell's emulated devices; the host's own device has served them before.

    Parameters
    ----------
    cell : Cell
    launcher : Launcher
    head : str
        The head's address on this machine's loopback.
    credentials : dict
        Paths of the device's "ca", "certificate" and "key", None where its link does not need them.
    say : callable
        Called with each step in a few words.

    Raises
    ------
    LaunchError
        A system cannot be built, or a device failed.
    ExportError
        The encoder cannot be exported.
    """
    image = built(DEVICE, launcher, say)
    say(f"serving on {', '.join(device.name for device in cell.devices)}")
    running: list[tuple[Device, Running]] = []
    for device in cell.devices:
        folder = cell.device(device.name)
        _export(cell, cell.device_export(device.name))
        machine = Machine(
            image,
            BOARDS[device.board],
            folder,
            cell.log(f"serve-{device.name}"),
            memory=device.memory,
            capture=cell.capture(f"serve-{device.name}"),
            netem=LINKS[device.link],
        )
        running.append((device, machine.start(launcher, f"serve-{device.name}", _job(cell, device, head, credentials))))
    for device, machine_on in running:
        outcome = machine_on.finish(SERVE_SECONDS)
        write_json(cell.device_use(device.name), _compare(cell, device, outcome, launcher).model_dump(mode="json"))


def device_uses(cell: Cell) -> list[DeviceUse]:
    """Return how each emulated device of a finished cell served."""
    return [DeviceUse.model_validate_json(cell.device_use(device.name).read_text()) for device in cell.devices]


def said_of(uses: Iterable[DeviceUse]) -> list[str]:
    """Return a line for people on each device."""
    return [
        f"{use.variant}, seed {use.seed}: an emulated {use.title} ({use.cpu}, {use.memory} MiB, {use.link}) served "
        f"{counted(use.inputs, 'input')}; {use.boot:.0f} s to boot, {use.serve:.0f} s to serve, "
        f"{use.seconds:.0f} s in all; largest process {use.resident / 2**20:.0f} MiB, "
        f"emulator {use.emulator / 2**20:.0f} MiB; "
        f"its predictions differ from the host's by at most {use.prediction_difference:.1g}"
        for use in uses
    ]


def _export(cell: Cell, folder: Path) -> None:
    model = cell.model()
    own = Own(
        model=model["name"],
        cut=model["cut"],
        input_shape=model["input_shape"],
        classes=[str(number) for number in range(model["classes"])],
        weights=cell.checkpoint("encoder", cell.plan.rounds),
        transforms=json.dumps([step.model_dump() for step in cell.variant.transforms]),
        pad=cell.variant.pad,
        seed=cell.seed,
    )
    with _EXPORTING:
        export_network(own, folder)


def _job(cell: Cell, device: Device, head: str, credentials: dict[str, str | None]) -> dict[str, Path | bytes]:
    """Return the files that go onto the device, its command as `run` among them."""
    words = ["python3", "-m", "client.device", _ENCODER, "--head", seen_from_guest(head), "--input", "inputs.npz"]
    words += ["--batch", str(cell.study.serve.victim_batch), "--record", f"/run/out/{_RECORD}", "--json"]
    files: dict[str, Path | bytes] = {name: _ROOT / name for name in PROGRAM}
    files |= {"inputs.npz": cell.inputs("victim"), _ENCODER: cell.device_export(device.name)}
    for name, path in credentials.items():
        if path is not None:
            files[f"{name}.pem"] = Path(path)
            words += [f"--{name}", f"{name}.pem"]
    return files | {"run": f"exec {shlex.join(words)} > /run/out/answers\n".encode()}


def _compare(cell: Cell, device: Device, outcome: Outcome, launcher: Launcher) -> DeviceUse:
    with np.load(outcome.folder / _RECORD, allow_pickle=False) as stored:
        order = np.argsort(stored["input"])
        predictions, activations = stored["prediction"][order], stored["activation"][order]
    write_arrays(cell.predictions(device.name), {"prediction": predictions})
    write_atomically(cell.log(f"device-{device.name}"), (outcome.folder / "log").read_bytes())
    with np.load(cell.predictions("victim"), allow_pickle=False) as stored:
        own = stored["prediction"]
    board, batch = BOARDS[device.board], cell.study.serve.victim_batch
    equal, apart = _on_the_wire(cell, device, activations, launcher)
    totals = _totals(outcome.folder / "answers")
    return DeviceUse(
        variant=shown_variant(cell.variant.name, device),
        seed=cell.seed,
        name=device.name,
        title=board.title,
        cpu=board.cpu,
        cores=CORES,
        memory=device.memory,
        link=device.link,
        wire=LINKS[device.link],
        inputs=len(predictions),
        batch=batch,
        boot=outcome.boot,
        serve=outcome.job,
        seconds=outcome.seconds,
        batch_ms=1000 * totals["encode_seconds"] / max(1, totals["messages"]),
        resident=outcome.resident,
        emulator=outcome.emulator,
        prediction_difference=_apart(predictions, own),
        activation_difference=apart,
        decoded_equal=equal,
    )


def _on_the_wire(
    cell: Cell, device: Device, computed: npt.NDArray[Any], launcher: Launcher
) -> tuple[bool | None, float]:
    """Compare the capture with the device's own record and the host's capture; (None, NaN) where TLS hides both."""
    if cell.variant.encrypted:
        return None, math.nan
    sent = [_decoded(cell, device, name, launcher) for name in (device.name, "victim")]
    equal = sent[0].dtype == computed.dtype and np.array_equal(sent[0], computed)
    return equal, _apart(*sent)


def _decoded(cell: Cell, device: Device, name: str, launcher: Launcher) -> npt.NDArray[Any]:
    process, capture = f"extract-{name}", cell.capture(f"serve-{name}")
    output = cell.device(device.name) / f"sent-{name}.npz"
    extract(launcher, process, "activation", capture, output, cell.log(process), SERVE_SECONDS)
    with np.load(output, allow_pickle=False) as stored:
        sent: npt.NDArray[Any] = stored["activation"]
    output.unlink()
    return sent


def _apart(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    return float(np.abs(first - second).max()) if first.shape == second.shape else math.inf


def _totals(answers: Path) -> dict[str, Any]:
    last: dict[str, Any] = json.loads(answers.read_text().splitlines()[-1])["totals"]
    return last
