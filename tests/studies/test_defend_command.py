"""The whole of `wireleak defend`, as its help shows it."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wireleak.lab.run.results import read_results

ROOT = Path(__file__).parents[2]


@pytest.mark.study
@pytest.mark.timeout(1200)
def test_the_example_of_the_help_runs(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "wireleak", "defend", "examples/audit_model.py:make", "--data", "digits"]
    argv += ["--protect", "slant", "--attributes", "slant", "--budget", "2%", "--quick", "--seeds", "1"]
    done = subprocess.run([*argv, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "s] trying defences: captures" in done.stdout, "a pipe sees what is going on"
    told = json.loads((tmp_path / "defend-make-latest" / "verdict.json").read_text())
    assert set(told["verdicts"]) == {"slant", "input"} and told["protect"] == "slant"
    assert all("one seed gives no interval" in said for said in told["verdicts"].values())
    tasks = [task for task in read_results(tmp_path / "defend-make-latest").tasks if task.measure == "accuracy"]
    assert tasks and all(task.draws is not None for task in tasks), "clients say which examples they named"
    page = (tmp_path / "defend-make-latest" / "report.html").read_text()
    assert "Comparison of defences" in page and "gradient reversal, 0.3" in page


@pytest.mark.study
@pytest.mark.timeout(1200)
def test_a_network_that_comes_trained_is_defended_as_it_is(tmp_path: Path) -> None:
    make = runpy.run_path(str(ROOT / "examples" / "audit_model.py"))["make"]
    torch.save(make(2, (1, 28, 28)).state_dict(), tmp_path / "weights.pt")
    argv = [sys.executable, "-m", "wireleak", "defend", "examples/audit_model.py:make", "--data", "digits"]
    argv += ["--weights", str(tmp_path / "weights.pt"), "--attributes", "slant", "--quick", "--seeds", "1"]
    done = subprocess.run([*argv, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "defences that train the encoder are left out: no --epochs are given with --weights" in done.stdout
    run = read_results(tmp_path / "defend-make-latest")
    accuracy = {task.variant: task for task in run.tasks if task.measure == "accuracy"}
    assert len(accuracy) == 4
    # Only a device applies the noise, so accuracy is that of the victims' predictions.
    assert {task.n for task in accuracy.values()} == {150} and all(task.draws is not None for task in accuracy.values())
