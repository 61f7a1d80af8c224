"""A file of the working folder never runs in place of a package, however a process is started."""

import importlib
import os
import subprocess
import sys
import sysconfig
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any

import pytest

from wireleak.lab.launch import parties
from wireleak.lab.launch.imports import leave_working_folder, safe_environment
from wireleak.lab.launch.processes import Launcher, LaunchError

SHADOWS = ("client", "server", "adversary", "torch", "logging", "numpy", "socket", "json", "flwr", "typer", "tests")
HOSTILE = 'open({marker!r}, "a").write(__name__ + " ")\n'
STUDY = """
name = "shadowed"
description = "a study for this test"
seeds = [0]
[data]
name = "digits"
clients = 2
train = 80
evaluation = 40
attacker = 60
victims = 30
[model]
name = "own:make"
[system]
rounds = 1
epochs = 1
[serve]
copies = 1
[[variants]]
name = "split"
cut = 1
[[attacks]]
name = "attributes"
targets = ["slant"]
"""
# The user asks for this module by name; it takes torch from the environment and `helper` from its own folder.
OWN = """
from torch import nn
from helper import CHANNELS
def make(classes):
    first = nn.Sequential(nn.Conv2d(1, CHANNELS, 3, stride=2), nn.ReLU())
    return nn.Sequential(first, nn.Flatten(), nn.Linear(CHANNELS * 13 * 13, classes))
"""
COMMAND = [str(Path(sysconfig.get_path("scripts")) / "wireleak")]
MODULE = [sys.executable, "-m", "wireleak"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder of files that are named like packages, and write to `marker` when they are imported."""
    working = tmp_path / "working"
    working.mkdir()
    for name in SHADOWS:
        (working / f"{name}.py").write_text(HOSTILE.format(marker=str(tmp_path / "marker")))
    return working


def imported(folder: Any) -> Any:
    marker = folder.parent / "marker"
    return marker.read_text() if marker.exists() else ""


def call(command: Any, folder: Any, *argv: Any, status: Any = 0, **environment: Any) -> str:
    environment = {**os.environ, **environment}
    if environment.get("PYTHONPATH", "").strip(os.pathsep) != environment.get("PYTHONPATH", ""):
        # `make coverage` has Python import the library for coverage before any line of ours runs.
        environment.pop("COVERAGE_PROCESS_CONFIG", None)
    done = subprocess.run([*command, *argv], cwd=folder, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == status, done.stderr + done.stdout
    return done.stdout + done.stderr


def shadow_wireleak(folder: Any) -> None:
    """Add a file that `python -m wireleak` runs instead of the package; the command is proof against it too."""
    (folder / "wireleak.py").write_text((folder / "client.py").read_text())


@pytest.mark.study
def test_a_run_from_a_folder_of_shadows_is_the_run_of_any_folder(folder: Path) -> None:
    shadow_wireleak(folder)
    (folder / "study.toml").write_text(STUDY)
    (folder / "own.py").write_text(OWN)
    (folder / "helper.py").write_text("CHANNELS = 2\n")
    call(COMMAND, folder, "run", "study.toml")
    assert imported(folder) == ""
    run = folder / "runs" / "shadowed-latest"
    assert "slant" in (run / "results.csv").read_text()
    capture = str(run / "split-seed0" / "tap" / "serve-victim.pcap")
    assert "activation" in call(COMMAND, folder, "inspect", capture)
    assert "slant" in call(COMMAND, folder, "attack", capture, "--attack", "attributes", "--target", "slant")
    assert "activation" in call([*MODULE[:1], "-P", *MODULE[1:]], folder, "inspect", capture)
    assert imported(folder) == ""


@pytest.mark.parametrize("path", ["{}", ":{}", "{}:"], ids=["path", "first entry empty", "last entry empty"])
@pytest.mark.parametrize("command", [COMMAND, MODULE], ids=["command", "module"])
def test_commands_that_read_only_import_nothing_of_the_working_folder(command: Any, path: str, folder: Path) -> None:
    if command is COMMAND and path == "{}":
        shadow_wireleak(folder)
    environment = {"PYTHONPATH": path.format(os.environ.get("PYTHONPATH", ""))}
    assert "digits" in call(command, folder, "data", **environment)
    assert "nothing.pcap" in call(command, folder, "inspect", "nothing.pcap", status=2, **environment)
    assert imported(folder) == ""


@pytest.mark.parametrize("preload", [True, False], ids=["forked", "plain"])
def test_parties_and_flower_import_nothing_of_their_working_folder(preload: bool, folder: Path) -> None:
    shadow_wireleak(folder)
    commands = {
        "client": ["-m", "client", "--help"],
        "server": ["-m", "server", "--help"],
        "adversary": ["-m", "adversary", "describe"],
        "flower": ["flwr.supernode.cli:flower_supernode", "--help"],
        "program": ["flower-superlink", "--help"],
    }
    with Launcher(preload=preload, log=folder.parent / "zygote.log") as launcher:
        for name, argv in commands.items():
            launcher.start(name, argv, folder.parent / f"{name}.log", cwd=folder)
        assert {process.name: process.wait(100) for process in launcher.processes} == dict.fromkeys(commands, 0)
    assert imported(folder) == ""


def test_a_folder_that_pythonpath_names_stays_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONSAFEPATH", "")  # to be taken back after the test
    checkout = str(Path(parties.__file__).resolve().parents[3])
    for entry, kept in (("", []), (".", [str(tmp_path)]), (str(tmp_path), [str(tmp_path)]), (os.pathsep, [])):
        monkeypatch.setenv("PYTHONPATH", entry)
        monkeypatch.setattr(sys, "path", [str(tmp_path), "", "/elsewhere"])
        assert safe_environment() == {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join([checkout, *kept])}
        leave_working_folder()
        assert sys.path == [*kept, "/elsewhere"]


def test_a_foreign_package_of_a_party_s_name_is_refused_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = folder.parent / "foreign" / "server" / "__init__.py"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("")
    line = f"{foreign} would run instead of wireleak's own package 'server'; install wireleak in an environment of its "
    line += "own: pipx install 'wireleak[lab]' or uv tool install 'wireleak[lab]'"
    # A launcher puts this checkout first, where PYTHONPATH does not name it already.
    path = os.pathsep.join([str(foreign.parents[1]), str(Path(parties.__file__).resolve().parents[3])])
    said = call(COMMAND, folder, "inspect", "nothing.pcap", status=2, PYTHONPATH=path)
    assert said == f"wireleak: {line}\n"
    monkeypatch.setenv("PYTHONPATH", path)
    with Launcher() as launcher:
        process = launcher.start("head", ["-m", "server", "--help"], folder / "head.log")
        with pytest.raises(LaunchError) as error:
            launcher.finish(process, 30)
        assert str(error.value) == line
        assert process.describe_end() == line


def test_a_file_that_another_package_replaced_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recorded = "client/config.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n"
    for party in parties.PARTIES:
        (tmp_path / party).mkdir()
        (tmp_path / party / "__init__.py").write_text("")
    (tmp_path / "client" / "config.py").write_text("")
    (tmp_path / "wireleak-1.dist-info").mkdir()
    (tmp_path / "wireleak-1.dist-info" / "RECORD").write_text(recorded)
    (tmp_path / "wireleak-1.dist-info" / "METADATA").write_text("Name: wireleak\n")
    monkeypatch.setattr(parties, "_ROOT", tmp_path)
    monkeypatch.setattr(parties, "distribution", lambda _: PathDistribution(tmp_path / "wireleak-1.dist-info"))
    for party in parties.PARTIES:
        monkeypatch.delitem(sys.modules, party, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert parties.foreign_party() is None
    (tmp_path / "client" / "config.py").write_text("other = 1\n")
    assert str(parties.foreign_party()).startswith(
        f"{tmp_path}/client/config.py is not the file that wireleak installed: another package replaced it; install"
    )
