"""The default study says what the project promises of it."""

import re
from pathlib import Path
from typing import Any

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
