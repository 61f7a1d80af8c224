"""Acceptance test 13 over the real wire: what was measured on noised activations stays under what is proved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wireleak.lab.report.boards import boards
from wireleak.lab.run.results import Results, read_results

NOISED = ("mu-32", "mu-8", "mu-2")


@pytest.fixture(scope="module")
def results(run_study: Callable[..., Path]) -> Results:
    return read_results(run_study("wire-noise"))


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
