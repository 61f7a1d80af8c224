"""A network is its author's code: every process of an audit that builds it reads only what it is granted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wireleak.lab.audit.learning import Lesson
from wireleak.lab.audit.speed import measured_speed
from wireleak.lab.audit.studies import all_attacks, audit_study
from wireleak.lab.audit.subject import Request, examine
from wireleak.lab.audit.survey import survey
from wireleak.lab.audit.trained import _train
from wireleak.lab.launch.jail import Jail, gap
from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.study.library import load_study

NETWORK = """
import sys
from pathlib import Path

from torch import nn

try:
    said = (Path(__file__).parent / "diary" / "today.txt").read_text()
except OSError as error:
    said = f"refused: {error.errno}"
print(f"the diary: {said}", file=sys.stderr, flush=True)


def make(classes, input_shape):
    return nn.Sequential(nn.Conv2d(input_shape[0], 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 13 * 13, classes))
"""


@pytest.fixture
def network(tmp_path: Path) -> str:
    """A network whose file reads a diary in a folder next to it, and says what came of it."""
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "today.txt").write_text("dear diary")
    (tmp_path / "net.py").write_text(NETWORK)
    return f"{tmp_path / 'net.py'}:make"


class StartedError(Exception):
    """A process was started, in this jail."""


class Recorder:
    """A launcher that starts nothing."""

    def start(self, name: str, argv: Any, log: Path, env: Any = None, *, essential: bool, jail: Any = None) -> Any:
        raise StartedError(jail)


def test_every_process_that_builds_the_network_is_jailed(network: str, tmp_path: Path) -> None:
    request = Request(network, "digits", attributes=("slant",), cuts=(1,), quick=True)
    subject = examine(request)
    folder, launcher = tmp_path / "run" / "network", Recorder()
    folder.mkdir(parents=True)
    source = tmp_path / "study.toml"
    source.write_text(audit_study(subject, "audit-make", folder, all_attacks(subject)))
    study, seed = load_study(str(source))[0], Seeds.draw().division(0)
    model = {"name": network, "input_shape": (1, 28, 28), "classes": 10, "seed": 0, "weights": None}
    files = str(folder / "w.safetensors"), str(folder / "w.json")
    lesson = Lesson(model, str(folder / "x.npz"), 1, 8, 2**30, 0.01, None, None, *files)
    started: list[Any] = [
        lambda: measured_speed(network, (1, 28, 28), 10, launcher),  # type: ignore[arg-type]
        lambda: _train(lesson, launcher, print),  # type: ignore[arg-type]
        lambda: survey(subject, study, seed, None, folder, launcher, 60.0),  # type: ignore[arg-type]
    ]
    for start in started:
        with pytest.raises(StartedError) as caught:
            start()
        jail = caught.value.args[0]
        assert isinstance(jail, Jail) and not jail.sockets and tmp_path / "net.py" in jail.read
        private = tmp_path / "diary" / "today.txt"
        assert not any(private.is_relative_to(place) for place in (*jail.read, *jail.write))


@pytest.mark.study
def test_a_network_that_reads_a_file_of_its_user_is_refused_in_every_process(network: str, tmp_path: Path) -> None:
    if gap() is not None:
        pytest.skip(f"needs a kernel that enforces jails: {gap()}")
    line = ["-m", "wireleak", "audit", network, "--data", "digits", "--attributes", "slant", "--quick"]
    line += ["--budget", "10m", "--out", str(tmp_path / "runs")]
    done = subprocess.run([sys.executable, *line], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the diary: dear diary" in done.stderr, "the user's own process finds the cuts"
    said = {path.name: path.read_text() for path in (tmp_path / "runs").rglob("*.log")}
    tried = {name for name, text in said.items() if "the diary: refused: 13" in text}
    assert {"seed0.log", "survey.log", "head.log", "serve-victim.log"} <= tried
    assert not [name for name, text in said.items() if "dear diary" in text]


@pytest.mark.study
def test_the_refusal_of_a_file_names_the_file_and_the_way(tmp_path: Path) -> None:
    """A network that needs a file that no process is granted ends the audit with one line."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.txt").touch()
    code = NETWORK.replace("except OSError as error:\n    said = f", "except ZeroDivisionError:\n    said = f")
    (tmp_path / "net.py").write_text(
        code.replace("diary", "weights").replace("today", "w").replace("{error.errno}", "")
    )
    if gap() is not None:
        pytest.skip(f"needs a kernel that enforces jails: {gap()}")
    with (
        Launcher(preload=False) as launcher,
        pytest.raises(LaunchError, match=r"w\.txt.*\(net\.py, line 8\); .*give weights"),
    ):
        measured_speed(f"{tmp_path / 'net.py'}:make", (1, 28, 28), 10, launcher)
