"""Run the study `devices` with a chosen Raspberry Pi, and print what it took."""

from __future__ import annotations

import json
import tempfile
import time
import tomllib
from pathlib import Path

import tomli_w
from rich.console import Console

from wireleak.lab.devices.pi.recipe import DEVICE
from wireleak.lab.devices.pi.system import build_seconds, is_built
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.steps.run import run_study
from wireleak.lab.study.library import study_files

STUDY = "devices"


def run_on_pi(board: str, link: str, memory: int, seeds: int, out: Path, console: Console) -> Path:
    """Run the study `devices` on one emulated Raspberry Pi and return the run's folder.

    Parameters
    ----------
    board, link : str
        See `[[devices]]` in a study.
    memory : int
        In MiB.
    seeds : int
        Run with seeds 0 to seeds - 1.
    out : Path
        Folder in which the run's folder is made.
    console : Console
        Output for progress, results and figures.

    Raises
    ------
    StudyError, LaunchError
        As for `run_study`.
    """
    began, cached = time.monotonic(), is_built(DEVICE)
    with tempfile.TemporaryDirectory() as scratch:
        tables = tomllib.loads(study_files()[STUDY].read_text())
        tables["devices"] = [one | {"board": board, "link": link, "memory": memory} for one in tables["devices"]]
        study = Path(scratch) / f"{STUDY}.toml"
        study.write_text(tomli_w.dumps(tables))
        command = f"wireleak pi --board {board} --link {link} --memory {memory} --seeds {seeds}"
        run = run_study(str(study), out, seeds=seeds, command=command, console=console)
    seconds = time.monotonic() - began
    built = "came from the cache; building it took" if cached else "was built for this run, in"
    processes = json.loads(RunFolder(run).processes.read_text())
    largest = max(processes, key=lambda one: float(one["peak_bytes"]))
    console.print(
        f"{'warm' if cached else 'cold'} run: {seconds:.0f} s; the Pi's system {built} {build_seconds(DEVICE):.0f} s",
        f"peak memory: {largest['peak_bytes'] / 2**20:.0f} MiB ({largest['name']})",
        sep="\n",
        soft_wrap=True,
        highlight=False,
    )
    return run
