"""Measure a network's speed in another process, because a training step's memory would stay with this one."""

from __future__ import annotations

import json
import tempfile
from contextlib import nullcontext
from pathlib import Path

from wireleak.common.files import write_json
from wireleak.lab.audit.sizes import Speed
from wireleak.lab.launch.granted import jail_of
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.run.layout import config_in

_SECONDS = 300.0


def measured_speed(name: str, input_shape: tuple[int, ...], classes: int, launcher: Launcher | None = None) -> Speed:
    """Return the time and memory that one input takes in a network.

    Parameters
    ----------
    name : str
        "/absolute/file.py:factory", or a module that any process can import.
    input_shape : tuple of int
    classes : int
    launcher : Launcher, optional
        Starts the process; by default one of its own.

    Raises
    ------
    LaunchError
        The network failed.
    """
    model = {"name": name, "input_shape": input_shape, "classes": classes, "seed": 0}
    started = Launcher(preload=False) if launcher is None else nullcontext(launcher)
    with tempfile.TemporaryDirectory() as scratch, started as ready:
        report = Path(scratch) / "speed.json"
        content = {"model": model, "report": str(report)}
        config = write_json(config_in(Path(scratch)), content)
        argv = ["-m", "wireleak.lab.audit.learning", "--config", str(config)]
        jail = jail_of(config, content, report.parent)
        process = ready.start("speed", argv, Path(scratch) / "speed.log", essential=False, jail=jail)
        ready.finish(process, _SECONDS)
        measured = json.loads(report.read_text())
    return Speed(measured["train"], measured["predict"], measured["memory"])
