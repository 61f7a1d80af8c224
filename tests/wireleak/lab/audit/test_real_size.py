"""An audit of colour photographs within a budget, and one that goes on after an interruption."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from wireleak.lab.audit.learning import Lesson, train
from wireleak.lab.audit.subject import Request, examine
from wireleak.lab.study.schema import StudyError

ROOT = Path(__file__).resolve().parents[4]
NETWORK = """
from torch import nn


def block(inputs, outputs):
    across = nn.Conv2d(inputs, inputs, 3, 2, 1, groups=inputs)
    return nn.Sequential(across, nn.ReLU(), nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU())


def make(classes):
    last = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes))
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), block(8, 16), block(16, 32), last)
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 160 colour images of 96 pixels: the task is which channel is bright, and the side is private."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "colour", "side"])
        for number in range(160):
            colour, side = int(rng.integers(3)), int(rng.integers(2))
            image = np.kron(rng.integers(0, 120, (12, 12, 3)), np.ones((8, 8, 1))).astype(np.uint8)
            half = slice(0, 48) if side else slice(48, 96)
            image[:, half, colour] = 220
            Image.fromarray(image).save(folder / f"{number}.png")
            table.writerow([f"{number}.png", ("red", "green", "blue")[colour], ("left", "right")[side]])
    (folder / "net.py").write_text(NETWORK)
    return folder


def asked(photos: Path, **more: Any) -> Request:
    options = ("size=96", "grey=false")
    return Request(f"{photos / 'net.py'}:make", str(photos), task="colour", options=options, **more)


def test_a_folder_is_read_at_the_size_that_is_needed(photos: Path) -> None:
    subject = examine(asked(photos, quick=True))
    assert subject.dataset.x.dtype == np.uint8 and subject.counts.total <= 160
    assert subject.counts.victims >= 20 and subject.options["sample"] > 160
    assert subject.block(subject.cuts[0]) == "0"


def test_the_hint_names_the_options_of_a_folder(photos: Path) -> None:
    with pytest.raises(StudyError, match="the folder was read as 1x28x28: set --option size=224 --option grey=false"):
        examine(Request(f"{photos / 'net.py'}:make", str(photos), task="colour"))


@pytest.mark.parametrize("cut", [None, 2])
def test_a_lesson_trains_all_or_only_the_blocks_after_a_cut(cut: int | None, photos: Path, tmp_path: Path) -> None:
    subject = examine(asked(photos, quick=True))
    path = tmp_path / "examples.npz"
    x, y = subject.dataset.x[:40], subject.dataset.y[:40]
    np.savez(path, x=x, y=y, evaluation_x=x, evaluation_y=y)
    before = tmp_path / "before.safetensors"
    model = {"name": subject.request.model, "input_shape": (3, 96, 96), "classes": 3, "seed": 0, "weights": None}
    rest: dict[str, Any] = {"batch": 8, "memory": 2**30, "learning_rate": 0.01, "seconds": None, "report": ""}
    train(Lesson(model=model, examples=str(path), epochs=0, cut=cut, weights=str(before), **rest))
    after = tmp_path / "after.safetensors"
    learnt = train(Lesson(model=model, examples=str(path), epochs=4, cut=cut, weights=str(after), **rest))
    assert learnt.passes == 4 and 0 <= learnt.accuracy <= 1 and learnt.majority >= 1 / 3
    old, new = load_file(before), load_file(after)
    same = {name for name in old if torch.equal(old[name], new[name])}
    # The second block ends inside the first module of two convolutions.
    assert same == ({"0.weight", "0.bias", "1.0.weight", "1.0.bias"} if cut else set())


def test_a_lesson_stops_at_its_time(photos: Path, tmp_path: Path) -> None:
    subject = examine(asked(photos, quick=True))
    path = tmp_path / "examples.npz"
    x, y = subject.dataset.x[:40], subject.dataset.y[:40]
    np.savez(path, x=x, y=y, evaluation_x=x, evaluation_y=y)
    model = {"name": subject.request.model, "input_shape": (3, 96, 96), "classes": 3, "seed": 0, "weights": None}
    learnt = train(
        Lesson(model, str(path), 1000, 8, 2**30, 0.01, None, 0.01, str(tmp_path / "w.safetensors"), str(tmp_path / "r"))
    )
    assert learnt.passes < 1


@pytest.mark.study
def test_an_audit_within_a_budget_names_all_that_it_left_out(photos: Path, tmp_path: Path, wireleak: Any) -> None:
    rest = (
        "--option",
        "size=96",
        "--option",
        "grey=false",
        "--budget",
        "150s",
        "--json",
        "--fail-above",
        "explained=0%",
    )
    done = wireleak("audit", f"{photos / 'net.py'}:make", "--data", photos, "--task", "colour", *rest, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    figures = json.loads(done.stdout)
    assert "--fail-above: every cut is above explained 0" in done.stderr and "victims are few" in done.stderr
    served, others = [cut["cut"] for cut in figures["cuts"]], [cut["cut"] for cut in figures["unserved"]]
    possible = examine(asked(photos)).network.cuts
    assert sorted(served + others) == list(possible) and all(cut["reason"] for cut in figures["unserved"])
    for cut in figures["cuts"]:
        assert cut["reconstruction"] or cut["skipped"], "every cut is read, or says why not"
        assert cut["accuracy"] > 0.5
        assert cut["outcome"].startswith(("Leaks", "No leak above", "Not resolved", "Not attacked"))
    assert figures["peak_bytes"] < 4 * 2**30


@pytest.mark.study
def test_an_interrupted_audit_goes_on(photos: Path, tmp_path: Path, wireleak: Any) -> None:
    line = [sys.executable, "-m", "wireleak", "audit", f"{photos / 'net.py'}:make", "--data", str(photos)]
    line += ["--task", "colour", "--option", "size=96", "--option", "grey=false", "--quick", "--attributes", "side"]
    line += ["--cuts", "1,3", "--out", str(tmp_path)]
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("audit-make-*/*/captured.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    (run,) = [path for path in tmp_path.glob("audit-make-*") if path.is_dir() and not path.is_symlink()]
    trained = (run / "network" / "seed0.safetensors").stat().st_mtime_ns
    other = wireleak(*line[3:], "--epochs", "1", "--resume", run, cwd=ROOT)
    assert other.returncode == 2 and "was started with epochs None, not 1; give the same options" in other.stderr
    done = wireleak(*line[3:], "--resume", run, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (run / "network" / "seed0.safetensors").stat().st_mtime_ns == trained
    assert {cut["cut"] for cut in json.loads((run / "audit.json").read_text())["cuts"]} == {1, 3}
