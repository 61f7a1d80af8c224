"""Acceptance test 13 over the real wire: what was measured on noised activations stays under what is proved."""

import subprocess
import sys
from typing import Any

import pytest

from wireleak.lab.report.boards import boards
from wireleak.lab.run.results import Results, read_results

NOISED = ("mu-32", "mu-8", "mu-2")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("wire-noise")
    command = [sys.executable, "-m", "wireleak", "run", "wire-noise"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return read_results(folder / "runs" / "wire-noise-latest")


@pytest.fixture(scope="module")
def found(results: Results) -> Any:
    return {(board.variant, board.attack): board for board in boards(results.rows)}


pytestmark = [pytest.mark.study, pytest.mark.timeout(1000)]


@pytest.mark.parametrize("variant", NOISED)
@pytest.mark.parametrize("attack", ["inversion", "candidates"])
def test_no_attack_names_more_inputs_than_is_proved(found: Any, variant: Any, attack: str) -> None:
    board = found[variant, attack]
    bound = board.get("reid", "clip ball").value
    assert board.get("reid").low <= bound <= board.get("reid", "any two inputs").value


@pytest.mark.parametrize("variant", NOISED)
def test_the_audit_stays_under_the_proved_epsilon(found: Any, variant: Any) -> None:
    board = found[variant, "candidates"]
    assert board.get("wire-epsilon").value <= board.get("wire-epsilon", "proved").value


@pytest.mark.parametrize("variant", NOISED)
def test_the_decoder_goes_below_the_bound_for_unbiased_attackers_and_not_below_van_trees(
    found: Any, variant: Any
) -> None:
    board = found[variant, "inversion"]
    assert board.get("mse").high < board.get("mse", "unbiased only").value
    assert board.get("mse").high > board.get("mse", "Gaussian inputs").value


def test_without_noise_the_informed_attacker_names_every_input_and_nothing_bounds_it(
    results: Results, found: Any
) -> None:
    board = found["no-noise", "candidates"]
    assert board.get("reid").value == 1
    assert not [row for row in results.rows if row.variant == "no-noise" and row.role == "bound"]


def test_noise_costs_every_attacker(found: Any) -> None:
    named = [found[variant, "candidates"].get("reid").value for variant in ("no-noise", *NOISED)]
    assert named[0] > named[1] > named[2] > named[3]
