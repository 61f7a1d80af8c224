"""The default study says what the project promises of it."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wireleak.lab.report.boards import boards, compare
from wireleak.lab.run.results import read_results


@pytest.fixture(scope="module")
def found(default_study: Path) -> Any:
    return {(board.variant, board.attack, board.target): board for board in boards(read_results(default_study).rows)}


pytestmark = [pytest.mark.study, pytest.mark.timeout(900)]


def test_at_the_wide_cut_the_wire_costs_the_attacker_nothing(found: Any) -> None:
    board = found["wide", "inversion", "input"]
    own, handed = board.get("mse"), board.get("mse", "in-process")
    assert abs(own.value / handed.value - 1) < 0.1
    assert own.value < board.get("mse", "mean").value / 20
    assert board.get("reid").value > 0.99


def test_at_the_narrow_cut_the_decoder_clearly_beats_ridge(found: Any) -> None:
    board = found["narrow", "inversion", "input"]
    for measure in ("mse", "reid"):
        assert compare(board.get(measure), board.get(measure, "ridge")) == "better"


@pytest.mark.parametrize(
    ("variant", "target"), [("wide", "digit"), ("wide", "slant"), ("wide", "thickness"), ("narrow", "digit")]
)
def test_attributes_are_read_off_the_wire(found: Any, variant: str, target: str) -> None:
    board = found[variant, "attributes", target]
    for prior in board.priors("auc"):
        assert compare(board.get("auc"), prior) == "better", prior.name


def test_under_tls_there_is_chance(found: Any) -> None:
    rebuilt = found["wide-tls", "inversion", "input"]
    assert rebuilt.get("mse").value == rebuilt.get("mse", "mean").value
    for (variant, _, target), board in found.items():
        if variant == "wide-tls" and target != "input":
            # One seed, six probes: the interval may miss .5 by a little by chance, but never by much.
            assert abs(board.get("auc").value - 0.5) < 0.1, (board.attack, target)


def test_without_a_terminal_lines_say_how_far_the_run_is(default_study: Path) -> None:
    printed = (default_study.parent / "printed.txt").read_text()
    assert re.search(r"^\[\d+ s\] captures \d of 7, attacks \d+ of \d+", printed, re.MULTILINE)


def test_a_finished_run_is_carried_into_the_tables_of_the_docs(default_study: Path, tmp_path: Path) -> None:
    docs = shutil.copytree(Path(__file__).parents[2] / "docs", tmp_path / "docs")
    command = [sys.executable, str(docs / "make_results.py"), str(default_study)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with (default_study / "results.csv").open(newline="") as lines:
        wanted = ("wide", "inversion", "input", "psnr", "attack")
        kept = ("variant", "attack", "target", "measure", "role")
        own = [float(row["value"]) for row in csv.DictReader(lines) if tuple(row[name] for name in kept) == wanted]
    assert len(own) == 3
    with (docs / "results" / "activations" / "digits.csv").open(newline="") as lines:
        (row,) = (one for one in csv.reader(lines) if one[:6] == ["Cut 1", "input", "inversion", "attack", "", "PSNR"])
    assert row[6] == f"{np.mean(own):.1f}" and row[10] == "3"
    assert read_results(default_study).commit in (docs / "results.md").read_text()
