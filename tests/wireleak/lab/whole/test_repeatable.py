"""Two runs of one secret are equal to the last digit, and so is one that was interrupted and resumed."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

# Sizes and accuracies, but no times: those are a machine's, not a study's.
TIMES = ("seconds", "device-seconds", "query-seconds")
STUDY = """
name = "again"
description = "a study that is run three times"
seeds = [0, 1]
[data]
name = "digits"
clients = 2
train = 400
evaluation = 100
attacker = 200
victims = 60
[model]
name = "strided28"
[system]
order = "fixed"
rounds = 2
epochs = 1
learning_rate = 0.004
[[variants]]
name = "split"
cut = 2
[[variants]]
name = "noise"
cut = 2
transforms = [{ name = "laplace", options = { clip = 12.0, epsilon = 50.0 } }]
[[variants]]
name = "whole"
cut = 2
mode = "federated"
[[attacks]]
name = "attributes"
targets = ["slant"]
[[attacks]]
name = "inversion"
targets = ["input"]
variants = ["split"]
untrained = "never"
options = { epochs = 2 }
"""


def table(run: Path) -> list[dict[str, Any]]:
    with (run / "results.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["measure"] not in TIMES]


@pytest.mark.study
def test_runs_of_one_secret_are_equal_to_the_last_digit(tmp_path: Path, wireleak: Any) -> None:
    (tmp_path / "again.toml").write_text(STUDY)
    (tmp_path / "secret").write_text("5a" * 32)
    command = ["run", "again.toml", "--secret", "secret"]
    for out in ("one", "two"):
        done = wireleak(*command, "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr + done.stdout
    running = subprocess.Popen(
        [sys.executable, "-m", "wireleak", *command, "--out", "three"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # One cell has been captured, another is under way.
    while not list(tmp_path.glob("three/again-*/*/captured.json")):
        assert running.poll() is None
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    running.wait(60)
    (cut,) = [path for path in tmp_path.glob("three/again-*") if not path.is_symlink()]
    assert not (cut / "results.csv").exists()
    done = wireleak("run", "again.toml", "--resume", cut, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    first = table((tmp_path / "one" / "again-latest").resolve())
    assert len(first) > 20 and {row["variant"] for row in first} == {"split", "noise", "whole"}
    assert table((tmp_path / "two" / "again-latest").resolve()) == first
    assert table(cut) == first
