import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TINY = """
name = "tiny"
description = "a study for tests"
seeds = [0]
[data]
name = "digits"
clients = 2
train = 400
evaluation = 100
attacker = 300
victims = 120
[model]
name = "strided28"
[system]
rounds = 2
epochs = 1
learning_rate = 0.004
[serve]
copies = 1
[[variants]]
name = "wide"
cut = 1
[[variants]]
name = "sealed"
cut = 2
link = "tls"
[[variants]]
name = "whole"
cut = 3
mode = "federated"
[[attacks]]
name = "inversion"
targets = ["input"]
variants = ["wide", "sealed"]
options = { epochs = 10 }
[[attacks]]
name = "attributes"
targets = ["slant"]
[[attacks]]
name = "sizes"
targets = ["slant"]
variants = ["sealed"]
"""


@pytest.fixture(scope="session")
def wireleak() -> Any:
    """Runs the command as a user would."""

    def run(*argv: Any, cwd: Any, **options: Any) -> Any:
        command = [sys.executable, "-m", "wireleak", *map(str, argv)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280, **options)

    return run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, wireleak: Any) -> Any:
    """One run of a small study, whole: (working folder, run folder, what the command printed)."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.toml").write_text(TINY)
    done = wireleak("run", "tiny.toml", cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder, (folder / "runs" / "tiny-latest").resolve(), done.stdout


@pytest.fixture
def tiny_study(tmp_path: Path) -> Path:
    """The small study's file, in a folder of its own."""
    path = Path(tmp_path / "tiny.toml")
    path.write_text(TINY)
    return path
