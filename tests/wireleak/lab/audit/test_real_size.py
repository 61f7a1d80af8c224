"""An audit of colour photographs within a budget, and one that goes on after an interruption."""

from __future__ import annotations

import csv
import itertools
import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from wireleak.common.models import save_weights
from wireleak.lab.audit.learning import Learnt, Lesson, train
from wireleak.lab.audit.readings import CutReading
from wireleak.lab.audit.studies import all_attacks, audit_study
from wireleak.lab.audit.subject import Request, examine
from wireleak.lab.audit.survey import read_all
from wireleak.lab.audit.trained import deal, doubts
from wireleak.lab.run.results import read_results
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.steps.plan import make_plan
from wireleak.lab.study.schema import Study, StudyError

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


def test_the_network_learns_from_the_clients_examples_of_the_run(photos: Path, tmp_path: Path) -> None:
    subject = examine(asked(photos, quick=True))
    study = Study.model_validate(tomllib.loads(audit_study(subject, "audit-make", tmp_path, all_attacks(subject))))
    seeds = Seeds.draw()
    save_weights(subject.network.whole, tmp_path / "seed0.safetensors")
    path = deal(subject, study, seeds.division(0), tmp_path / "examples.npz")
    roles = make_plan(study, dataset=subject.dataset, secret=seeds).divisions[study.variants[0].name, 0].roles
    with np.load(path) as dealt:
        assert np.array_equal(dealt["x"], subject.dataset.x[roles.clients])
        assert np.array_equal(dealt["evaluation_x"], subject.dataset.x[roles.evaluation])


def surveyed(photos: Path, tmp_path: Path, seconds: float) -> Any:
    subject = examine(asked(photos, quick=True))
    x = subject.dataset.x
    np.savez(tmp_path / "survey.npz", own=x[:64], victims=x[64:96])
    model = {"name": subject.request.model, "input_shape": (3, 96, 96), "classes": 3, "seed": 0, "weights": None}
    return subject, read_all(
        {
            "model": model,
            "examples": tmp_path / "survey.npz",
            "seconds": seconds,
            "report": str(tmp_path / "survey.json"),
        }
    )


def test_every_possible_cut_is_read_in_process(photos: Path, tmp_path: Path) -> None:
    subject, found = surveyed(photos, tmp_path, 600.0)
    assert [one.cut for one in found] == list(subject.network.cuts)
    assert {(one.pairs, one.victims) for one in found} == {(64, 32)} and found[0].chance == 1 / 32
    # The first activation shows the input, the last only its channels' means.
    assert found[0].explained > 0.7 > found[-1].explained and found[0].reid > 0.9 > found[-1].reid
    own, victims = (subject.dataset.x[part].astype(np.float32) / 255 for part in (slice(64), slice(64, 96)))
    assert found[0].prior == pytest.approx(float(((victims - own.mean(0)) ** 2).mean()), rel=1e-5)
    kept = json.loads((tmp_path / "survey.json").read_text())
    assert kept["ended"] and [CutReading(**one) for one in kept["cuts"]] == found


def test_a_survey_that_is_short_of_time_reads_on_fewer_examples(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr("wireleak.lab.audit.survey.time", SimpleNamespace(monotonic=lambda: next(clock)))
    subject, found = surveyed(photos, tmp_path, 2.5)
    # A cut takes a second on this clock, so the time ends early; a late survey goes on, on the fewest examples.
    assert [one.cut for one in found] == list(subject.network.cuts) and len(found) > 3
    assert [one.pairs for one in found] == sorted((one.pairs for one in found), reverse=True)
    assert found[0].pairs == 64 and (found[2].pairs, found[2].victims) == (16, 16)
    # Far too late, it ends with the cuts that it has.
    _, found = surveyed(photos, tmp_path, 1.0)
    assert [one.cut for one in found] == [1, 2, 3]


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
        assert cut["survey"]["pairs"] >= 16
        assert cut["accuracy"] > 0.5
        assert cut["outcome"].startswith(("Leaks", "No leak above", "Not resolved", "Not attacked"))
    assert all(cut["survey"] for cut in figures["unserved"]), "every possible cut has a cheap reading"
    assert "cuts not served, read in process" in done.stderr
    assert figures["peak_bytes"] < 4 * 2**30


@pytest.mark.study
def test_an_interrupted_and_a_killed_audit_go_on_and_repeat_nothing(
    photos: Path, tmp_path: Path, wireleak: Any
) -> None:
    line = [sys.executable, "-m", "wireleak", "audit", f"{photos / 'net.py'}:make", "--data", str(photos)]
    line += ["--task", "colour", "--option", "size=96", "--option", "grey=false", "--quick", "--attributes", "side"]
    line += ["--cuts", "1,3", "--out", str(tmp_path)]

    def stop_at(what: str, number: int, *more: Any) -> int:
        """Start the audit, and send it a signal as soon as a file is there; return its status."""
        process = subprocess.Popen([*line, *map(str, more)], cwd=ROOT, stdout=quiet, stderr=quiet)
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob(f"audit-make-2*/{what}")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(number)
        return process.wait(60)

    def done(run: Path) -> dict[str, int]:
        """When every file of finished work was written: weights, surveys, captures and guesses."""
        kinds = "network/*.safetensors", "network/survey.json", "*/captured.json", "**/guesses.npz"
        found = [path for kind in kinds for path in run.glob(kind)]
        # Of a cell that was not finished nothing counts.
        return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in found}

    quiet = subprocess.DEVNULL
    assert stop_at("*/captured.json", signal.SIGINT) == 130
    (run,) = [path for path in tmp_path.glob("audit-make-2*") if path.is_dir()]
    first = done(run)
    assert stop_at("**/guesses.npz", signal.SIGKILL, "--resume", run) == -signal.SIGKILL
    second = done(run)
    assert first.items() <= second.items() and any("guesses" in name for name in second)
    other = wireleak(*line[3:], "--epochs", "1", "--resume", run, cwd=ROOT)
    assert other.returncode == 2 and "was started with epochs None, not 1; give the same options" in other.stderr
    ended = wireleak(*line[3:], "--resume", run, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    last = done(run)
    assert second.items() <= last.items(), "nothing that was finished is done again"
    assert {cut["cut"] for cut in json.loads((run / "audit.json").read_text())["cuts"]} == {1, 3}
    tried = {(row.variant, row.attack) for row in read_results(run).rows}
    decoders = {(f"cut-{cut}", name) for cut in (1, 3) for name in ("inversion", "inverse-network", "attributes")}
    assert tried >= decoders


def test_a_network_that_did_not_learn_is_doubted() -> None:
    def learnt(accuracy: float) -> list[Learnt]:
        return [Learnt(accuracy, 0.4, 2.0, 2, 1.0, 5.0)]

    assert doubts({None: learnt(0.8), 3: learnt(0.75)}) == []
    (said,) = doubts({None: learnt(0.41)})
    assert said.startswith("The network did not learn its task: accuracy 41.0") and "--weights" in said
    (said,) = doubts({None: learnt(0.8), 3: learnt(0.6)})
    assert said.startswith("With a frozen encoder, cut 3 reaches 60.0")


@pytest.mark.study
def test_weights_of_a_user_are_served_as_they_are_and_an_untrained_network_is_not_recommended(
    photos: Path, tmp_path: Path, wireleak: Any
) -> None:
    given = examine(asked(photos, quick=True)).network.whole.state_dict()
    torch.save(given, tmp_path / "mine.pt")
    rest = ("--option", "size=96", "--option", "grey=false", "--quick", "--cuts", "2", "--attributes", "", "--json")
    mine = ("--weights", tmp_path / "mine.pt", "--frozen-encoder", "--epochs", "1", "--lr", "1e-6")
    line = ("audit", f"{photos / 'net.py'}:make", "--data", photos, "--task", "colour", *rest, *mine)
    done = wireleak(*line, "--fail-above", "reid=5%", cwd=tmp_path)
    assert done.returncode == 3 and "--fail-above: every cut is above reid 0.05" in done.stderr
    assert "Warning" not in done.stdout and "The network did not learn its task" in done.stderr
    figures = json.loads(done.stdout)
    assert figures["doubts"] and figures["verdict"][-1].startswith("No cut is recommended.")
    (run,) = tmp_path.glob("runs/audit-make-2*")
    served = load_file(run / "network" / "seed0-cut2.safetensors")
    kept = {name for name, values in served.items() if torch.equal(values, given[name])}
    assert {name for name in given if name.startswith(("0.", "1.0."))} <= kept, "the device's part is frozen"
    assert any(name.startswith("3.") for name in given.keys() - kept), "the rest was trained"
