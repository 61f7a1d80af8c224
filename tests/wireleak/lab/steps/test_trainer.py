"""A training client on an emulated Pi: its settings in the guest, and the figures on its console."""

from __future__ import annotations

import json
import os
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from wireleak.common.files import write_json
from wireleak.lab.devices.pi.machine import EMULATOR, Image
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.run.truth import trained_labels
from wireleak.lab.steps.trainer import said_of_trainer, trainer_on_pi
from wireleak.lab.study.schema import Study

TINY = """
name = "tiny"
description = "a study for tests"
[data]
name = "digits"
clients = 2
train = 60
evaluation = 20
attacker = 40
victims = 30
[model]
name = "strided28"
[[devices]]
name = "pi"
kind = "pi"
role = "train"
board = "pi4"
memory = 1024
[[variants]]
name = "wide"
cut = 1
"""
# It copies the job, as the guest would unpack it, and logs what a node logs.
STAND_IN = f"""#!{sys.executable}
import pathlib, shutil, sys
disks = [word[5:].split(",")[0] for before, word in zip(sys.argv, sys.argv[1:]) if before == "-drive"]
shutil.copy(disks[1], pathlib.Path(disks[1]).with_name("kept.tar"))
print("SuperNode ID: 17")
print('{{"labels": [1, 0]}}\\n{{"labels": [1]}}')
print('{{"name": "client", "task": "flwr-clientapp", "status": 0, "cpu": 3.5, "seconds": 4.25, "rss": 209715200}}')
print('{{"name": "client", "task": "flwr-clientapp", "status": 0, "cpu": 1.5, "seconds": 2.0, "rss": 104857600}}')
"""


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cell:
    program = tmp_path / "bin" / EMULATOR
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))
    study = Study.model_validate(tomllib.loads(TINY))
    cell = Cell(study, study.variants[0], 0, tmp_path / "run", (1, 28, 28), 2, Seeds(bytes(32)))
    security = {"ca": str(tmp_path / "ca.pem"), "certificate": None, "key": None}
    head = {"address": "127.0.0.1:4001", "security": security, "pad": None}
    paths = {name: str(cell.folder / "client-1" / f"{name}.npz") for name in ("train", "evaluation")}
    write_json(cell.config("client-1"), {"seed": 3, "head": head, "keep": "/kept", "ledger": "/labels", **paths})
    for path in (*map(Path, paths.values()), tmp_path / "ca.pem"):
        path.write_text(path.name)
    return cell


def test_the_guest_gets_its_data_and_addresses_that_it_can_reach(cell: Cell, tmp_path: Path) -> None:
    credentials = {"ca": str(tmp_path / "ca.pem"), "certificate": None, "key": None}
    with Launcher(preload=False) as launcher:
        process = trainer_on_pi(cell, launcher, Image(tmp_path), credentials)("127.0.0.1:5001")
        launcher.finish(process, 60)
    with tarfile.open(cell.device("pi") / "kept.tar") as job:
        held = {entry.name: job.extractfile(entry).read() for entry in job if entry.isfile()}  # type: ignore[union-attr]
    config, node = json.loads(held["config.json"]), json.loads(held["node.json"])
    assert config["head"]["address"] == "10.0.2.2:4001" and node["superlink"] == "10.0.2.2:5001"
    assert config["head"]["security"] == {"ca": "/run/job/ca.pem", "certificate": None, "key": None}
    assert node["root_certificates"] == "/run/job/ca.pem" and held["ca.pem"] == b"ca.pem"
    assert config["train"] == "/run/job/train.npz" and held["train.npz"] == b"train.npz"
    assert config["seed"] == 3
    # Its labels leave it by its console, where its app's figures are too.
    assert config["ledger"] == node["events"]
    assert {"client/app.py", "wireleak/common/plan.py", "wireleak/lab/devices/pi/node.py"} <= set(held)
    assert not [name for name in held if "__pycache__" in name or name.startswith(("server", "adversary"))]


def test_its_console_says_what_the_messages_took(cell: Cell, tmp_path: Path) -> None:
    with Launcher(preload=False) as launcher:
        launcher.finish(trainer_on_pi(cell, launcher, Image(tmp_path), {})("127.0.0.1:5001"), 60)
    assert trained_labels(cell, "client-1").tolist() == [1, 0, 1]
    (line,) = said_of_trainer(cell)
    assert "client-1 was a SuperNode on an emulated Raspberry Pi 4 (1024 MiB)" in line
    assert "2 messages, 2.0 to 4.2 s each, its app at most 200 MiB" in line
