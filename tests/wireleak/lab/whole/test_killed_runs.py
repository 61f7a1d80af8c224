"""Whatever dies, at whatever stage: the run ends in a line that names it, and `--resume` ends with the same table."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.wireleak.lab.whole.killing import DECODER, FORK_SERVER, LAB, End, Running, rounds

pytestmark = [pytest.mark.study, pytest.mark.timeout(3600)]

# The folder's name stands for a user's.
USER = "ann-smith"
STUDY = """
name = "killed"
description = "a study whose processes are killed"
seeds = [0]
[data]
name = "digits"
clients = 2
train = 64
evaluation = 16
attacker = 40
victims = 40
[model]
name = "nets/small.py:make"
[system]
order = "fixed"
rounds = 2
epochs = 2
batch = 8
[[variants]]
name = "split"
cut = 1
[[variants]]
name = "whole"
cut = 1
mode = "federated"
[[variants]]
name = "steered"
cut = 1
mode = "federated"
participant = { name = "multi-task", options = { attribute = "slant" } }
[[attacks]]
name = "attributes"
targets = ["slant"]
"""
NETWORK = """
from torch import nn
from channels import CHANNELS
def make(classes):
    first = nn.Sequential(nn.Conv2d(1, CHANNELS, 3, stride=2), nn.ReLU())
    return nn.Sequential(first, nn.Flatten(), nn.Linear(CHANNELS * 13 * 13, classes))
"""
ATTACK = "attack-attributes-slant"
RESULTS = ("results.csv", "results.json", "report.html", "pictures.npz", "processes.json")
STAGES: dict[str, Callable[[Running], bool]] = {
    "start": lambda run: True,
    "first round": lambda run: rounds(run) == 0 and run.pid("client-0-app") is not None,
    "between rounds": lambda run: rounds(run) == 1,
    "serving": lambda run: rounds(run) == 2 and run.pid("serve-victim") is not None,
    "decoding": lambda run: run.pid(DECODER) is not None,
    "attack": lambda run: run.pid(ATTACK) is not None,
    "scoring": lambda run: (run.cell / "adversary" / "attributes-slant" / "guesses.npz").exists(),
    "report": lambda run: (run.cell.parent / "processes.json").exists(),
}
# How the table calls the training of a cell.
TRAINING = {"split-seed0": "split", "whole-seed0": "federated", "steered-seed0": "federated, client-0 malicious"}
# The kills of a list happen one after another in one run, which is resumed after each. No process is left out, and no
# stage; where two kills would end alike, one mode of training has the one, and the other mode the other.
SPLIT = [
    ("start", ("tap", "head", "superlink", "client-0", "runner", LAB)),
    ("first round", ("head", "superlink", "serverapp", "client-0", "client-0-app", FORK_SERVER, LAB)),
    ("between rounds", ("serverapp", "client-0", "client-0-app", LAB)),
]
WHOLE = [
    ("first round", ("tap", "runner", "client-0-app")),
    ("between rounds", ("superlink", "client-0-app")),
    ("serving", ("tap", "head", "serve-victim", LAB)),
    ("decoding", (DECODER, LAB)),
    ("attack", (ATTACK, FORK_SERVER)),
    ("scoring", (FORK_SERVER, LAB)),
    ("report", (LAB,)),
]
# Client 0 is the malicious participant.
STEERED = [
    ("start", ("client-0",)),
    ("first round", ("client-0", "client-0-app")),
    ("between rounds", ("client-0", "client-0-app")),
]
MATRIX = {"split-seed0": SPLIT, "whole-seed0": WHOLE, "steered-seed0": STEERED}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, wireleak: Any) -> Path:
    """A run that nobody disturbs, in a user's folder and under a strict umask."""
    folder = tmp_path_factory.mktemp("home") / USER
    (folder / "nets").mkdir(parents=True)
    (folder / "study.toml").write_text(STUDY)
    (folder / "nets" / "small.py").write_text(NETWORK)
    (folder / "nets" / "channels.py").write_text("CHANNELS = 2\n")
    (folder / "secret").write_text("5a" * 32)
    before = os.umask(0o027)
    try:
        done = wireleak("run", "study.toml", "--secret", "secret", "--jobs", "1", cwd=folder)
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr + done.stdout
    return (folder / "runs" / "killed-latest").resolve()


def before(stage: str, run: Path, cell: Path) -> None:
    """Take back what a run has done from a stage on."""
    for name in RESULTS:
        (run / name).unlink(missing_ok=True)
    if stage in ("attack", "scoring"):
        shutil.rmtree(cell / "adversary" / "attributes-slant", ignore_errors=True)
    elif stage == "decoding":
        (cell / "adversary" / "inspect.json").unlink(missing_ok=True)
    elif stage != "report":
        shutil.rmtree(cell, ignore_errors=True)


def copy_of(undisturbed: Path, name: str) -> Path:
    """Copy a run, without Flower's private homes, which hold pipes."""
    return Path(shutil.copytree(undisturbed, undisturbed.with_name(name), ignore=shutil.ignore_patterns("flower")))


def resume(run: Path, cell: str) -> Running:
    """Continue a run; the processes of this cell are looked for."""
    folder = run.parent.parent
    return Running(["study.toml", "--resume", str(run), "--jobs", "1"], folder, run / cell)


def kill_each(undisturbed: Path, cell: str, matrix: list[tuple[str, tuple[str, ...]]]) -> list[str]:
    """Kill the processes of a copied run in turn, and resume it each time; return the rows of the table."""
    run, rows = copy_of(undisturbed, f"killed-{cell}"), []
    for stage, victims in matrix:
        for victim in victims:
            if not lost(run / cell):
                before(stage, run, run / cell)
            running = resume(run, cell)
            running.kill(victim, STAGES[stage])
            end = running.end()
            said = judge(end, victim, stage, run, undisturbed)
            rows.append(f"| {TRAINING[cell]} | {stage} | {victim} | {end.status} | {said} |")
            print(rows[-1], flush=True)
    end = resume(run, cell).end()
    assert (end.status, end.faults) == (0, []), end.line
    assert (run / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()
    assert json.loads((run / "results.json").read_text())["notes"] == notes(undisturbed)
    return rows


def lost(cell: Path) -> list[str]:
    """Return which clients a captured cell lost."""
    done = cell / "captured.json"
    return list(json.loads(done.read_text())["lost"]) if done.exists() else []


def notes(run: Path) -> list[str]:
    """Return the notes under a run's table."""
    return list(json.loads((run / "results.json").read_text())["notes"])


def judge(end: End, victim: str, stage: str, run: Path, undisturbed: Path) -> str:
    """Check how a run ended, and return it in words."""
    assert end.faults == [], (victim, stage)
    if victim == LAB:
        assert end.status == -signal.SIGKILL
        return "nothing is left but its files"
    if end.status:
        name = {DECODER: f"{run.name.removeprefix('killed-')}-inspect", "serverapp": "the ServerApp"}.get(
            victim, victim
        )
        said = f"{name} was killed by SIGKILL"
        assert end.status == 2 and said in end.line and f"--resume {run}" in end.line, end
        return said
    added = [note for note in notes(run) if note not in notes(undisturbed)]
    if added:
        said = (
            f"{run.name.removeprefix('killed-')}-attributes-slant did not run" if victim == ATTACK else f"{victim} was"
        )
        assert any(said in note and "killed by SIGKILL" in note for note in added), added
        return "a note names the attack" if victim == ATTACK else "a note names the client"
    # An app that had no message just then is replaced, and scores need no fork server.
    assert victim in ("client-0-app", FORK_SERVER)
    assert (run / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()
    return "the run ends as if undisturbed"


def test_every_process_killed_at_every_stage(undisturbed: Path) -> None:
    # More runs at once would take longer than the limits of a round on two cores.
    with ThreadPoolExecutor(2) as pool:
        tables = list(pool.map(lambda one: kill_each(undisturbed, *one), MATRIX.items()))
    killed = [victim for rows in MATRIX.values() for _, victims in rows for victim in victims]
    assert sum(map(len, tables)) == len(killed)


def test_ctrl_c_and_sigterm_end_a_run_in_order_and_a_running_one_is_not_resumed_twice(
    undisturbed: Path, wireleak: Any
) -> None:
    run = copy_of(undisturbed, "stopped")
    before("start", run, run / "split-seed0")
    for number in (signal.SIGINT, signal.SIGTERM):
        running = resume(run, "split-seed0")
        while running.pid("client-0-app") is None:
            assert running.process.poll() is None
        refused = wireleak("run", "study.toml", "--resume", run, cwd=run.parent.parent)
        assert refused.returncode == 2 and f"--resume: {run} is still being written" in refused.stderr
        running.process.send_signal(number)
        end = running.end()
        assert (end.status, end.faults, end.line) == (130, [], "wireleak: interrupted; every process was stopped")
    for _ in range(2):
        end = resume(run, "split-seed0").end()
        assert (end.status, end.faults) == (0, []), end.line
        assert (run / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()


def test_no_capture_and_no_file_of_a_device_names_the_user_s_folder(undisturbed: Path) -> None:
    captures = [*undisturbed.glob("*/tap/*.pcap")]
    assert len(captures) == 20
    assert [path for path in captures if USER.encode() in path.read_bytes()] == []
    assert all(b"small.py:make" in path.read_bytes() for path in undisturbed.glob("*/tap/*serve-*.pcap"))


def test_the_umask_holds_for_every_file_of_a_run_and_secrets_are_their_owner_s(undisturbed: Path) -> None:
    paths = [path for path in undisturbed.rglob("*") if not path.is_symlink()]
    rights = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    own = {path: right for path, right in rights.items() if "flower" not in path.parts}
    secret = {path: right for path, right in own.items() if path.name in ("sealed", "secret")}
    assert len(secret) == len(MATRIX) + 2 and all(right & 0o077 == 0 for right in secret.values()), secret
    wrong = {
        str(path.relative_to(undisturbed)): oct(right)
        for path, right in own.items()
        if path not in secret and right != (0o750 if path.is_dir() else 0o640)
    }
    assert wrong == {}
    assert [path for path, right in rights.items() if right & 0o027] == []
