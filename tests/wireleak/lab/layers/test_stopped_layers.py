"""`wireleak layers` stopped anywhere: `--resume` goes on, and its figures are those of a call that nobody stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.wireleak.lab.layers.test_layers import WIDTH, write_run
from wireleak.common.models import build, save_weights

NETWORK = f"""
from torch import nn
def make(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear({WIDTH}, {WIDTH}), nn.Linear({WIDTH}, 1), nn.Linear(1, num_classes))
"""
# Kept measurements behind which the command is stopped, of how many; behind the last one it draws maps.
STOPS = [(0, signal.SIGTERM), (3, signal.SIGKILL), (8, signal.SIGTERM), (-1, signal.SIGTERM)]


def finished(folder: Path, network: str) -> Path:
    """Write a finished run of a network that any process can build."""
    run: Path = write_run(folder, network=network)
    encoder, head = build(network, (1, 1, WIDTH), 2, 0).split(1)
    for stage, name in ((encoder, "encoder"), (head, "head")):
        save_weights(stage, run / "early-seed0" / "server" / "checkpoints" / f"{name}-10.safetensors")
    return run


def start(run: Path, *options: str) -> subprocess.Popen[str]:
    """Start `wireleak layers` on a run."""
    command = [
        sys.executable,
        "-m",
        "wireleak",
        "layers",
        str(run),
        "--permutations",
        "1",
        "--examples",
        "60",
        *options,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kept(run: Path) -> int:
    """Return how many measurements the interrupted call has kept; -1 before it begins to measure."""
    path = run / "early-seed0" / "layers.partial"
    return path.read_text().count("\n") - 1 if path.exists() else -1


@pytest.mark.study
@pytest.mark.timeout(900)
def test_a_stopped_command_goes_on_to_the_same_figures(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    network = f"{tmp_path / 'net.py'}:make"
    undisturbed, stopped = finished(tmp_path / "whole", network), finished(tmp_path / "run", network)
    whole = start(undisturbed, "--jobs", "1")
    most = 0
    while whole.poll() is None:
        most = max(most, kept(undisturbed))
        time.sleep(0.02)
    assert whole.returncode == 0, whole.communicate()[0]
    for after, number in STOPS:
        running = start(stopped, "--jobs", "2" if number == signal.SIGKILL else "1", "--resume")
        while kept(stopped) < (after if after >= 0 else most):
            assert running.poll() is None, running.communicate()[0]
            time.sleep(0.01)
        workers = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(number)
        said, _ = running.communicate(timeout=60)
        if number == signal.SIGKILL:
            assert running.returncode == -signal.SIGKILL
        else:
            assert running.returncode == 130
            assert said.splitlines()[-1].endswith("go on with the same options and --resume"), said
        assert psutil.wait_procs(workers, timeout=20)[1] == []
        assert not (stopped / "early-seed0" / "layers.json").exists()
    last = start(stopped, "--jobs", "1", "--resume")
    said, _ = last.communicate()
    assert last.returncode == 0, said
    assert (stopped / "early-seed0" / "layers.json").read_bytes() == (
        undisturbed / "early-seed0" / "layers.json"
    ).read_bytes()
    assert kept(stopped) == -1
