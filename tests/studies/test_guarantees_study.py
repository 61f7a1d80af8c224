"""What was measured on the real wire stays under each promise, and noise without a clip is promised nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wireleak.lab.report.boards import boards
from wireleak.lab.run.results import Results, read_results

PROMISED = ("mu-8", "mu-2", "laplace-64", "laplace-8")


@pytest.fixture(scope="module")
def results(run_study: Callable[..., Path]) -> Results:
    return read_results(run_study("guarantees", "--seeds", "1"))


@pytest.fixture(scope="module")
def found(results: Results) -> Any:
    return {board.variant: board for board in boards(results.rows) if board.attack == "candidates"}


pytestmark = [pytest.mark.study, pytest.mark.timeout(1000)]


@pytest.mark.parametrize("variant", PROMISED)
def test_the_bayes_attacker_stays_under_the_bounds_and_the_audit_under_epsilon(found: Any, variant: Any) -> None:
    board = found[variant]
    ball, two = (board.get("reid", name).value for name in ("clip ball", "any two inputs"))
    assert board.get("reid").low <= ball <= two
    assert board.get("wire-epsilon").value <= board.get("wire-epsilon", "proved").value


@pytest.mark.parametrize("variant", PROMISED)
def test_the_audit_on_the_wire_is_tight_and_would_have_seen_half_of_the_noise(results: Results, variant: str) -> None:
    (audit,) = [one for one in results.audits if one.variant == variant]
    assert audit.holds and audit.lower > 0.75 * audit.promised
    assert audit.smallest_fault > 0.8


@pytest.mark.parametrize("variant", ["no-noise", "unclipped", "metric-8"])
def test_what_has_no_local_epsilon_is_printed_none(results: Results, found: Any, variant: str) -> None:
    assert found[variant].get("wire-epsilon") is None
    assert not [row for row in results.rows if row.variant == variant and row.role == "bound"]


def test_only_promised_noise_is_audited(results: Results) -> None:
    assert {one.variant for one in results.audits} == set(PROMISED)


def test_the_page_says_what_each_promises(results: Results) -> None:
    told = {variant.name: " ".join(variant.guarantees) for variant in results.variants}
    assert "local 8-DP (delta 0)" in told["laplace-8"] and "mu = 2," in told["mu-2"]
    assert told["unclipped"] == "noise: no epsilon: unclipped activations have no sensitivity, hence no epsilon"
    assert "per unit of Euclidean distance" in told["metric-8"] and "NOT comparable" in told["metric-8"]


def test_noise_costs_the_informed_attacker(found: Any) -> None:
    named = {variant: board.get("reid").value for variant, board in found.items()}
    assert named["no-noise"] == 1
    assert named["mu-8"] > named["mu-2"] and named["laplace-64"] > named["laplace-8"]
