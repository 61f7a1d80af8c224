"""The report never says what the intervals do not show."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wireleak.lab.report import synthetic
from wireleak.common.references import reference
from wireleak.lab.report.boards import boards
from wireleak.lab.report.findings import Finding, finding, findings, titles
from wireleak.lab.run.results import Row

Interval = tuple[float, float, float]
CHANCE = {"reid": 0.002, "auc": 0.5, "mse": math.nan, "words": math.nan, "words-found": math.nan}


def rows(measure: str, levels: dict[str, Interval], link: str = "plaintext") -> list[Row]:
    target = "digit" if measure == "auc" else "input"
    return [
        Row(
            **{"study": "s", "variant": "cut1", "seed": 0, "link": link, "vantage": "link", "attack": "a"},
            **{"target": target, "measure": measure, "n": 500, "name": name, "chance": CHANCE[measure]},
            role=reference(name).role if name else "attack",
            **{"low": low, "value": value, "high": high},
        )
        for name, (low, value, high) in levels.items()
    ]


def judge(*groups: list[Row]) -> Finding:
    (board,) = boards([row for group in groups for row in group])
    return finding(board, "Cut 1")


PRIOR_MSE = {"mean": (0.045, 0.046, 0.047), "shuffled": (0.046, 0.047, 0.048)}
PRIOR_REID = {"mean": (0.0, 0.002, 0.004), "shuffled": (0.0, 0.002, 0.004)}
CLOSE = rows("mse", {"": (0.003, 0.004, 0.005), **PRIOR_MSE})
FAR = rows("mse", {"": (0.044, 0.0455, 0.047), **PRIOR_MSE})
NAMED = rows("reid", {"": (0.98, 0.99, 1.0), **PRIOR_REID})
UNNAMED = rows("reid", {"": (0.001, 0.004, 0.006), **PRIOR_REID})


def test_a_clear_reconstruction_is_stated_with_its_numbers() -> None:
    found = judge(CLOSE, NAMED)
    assert found.outcome == "leak"
    assert found.text.startswith(
        "Rebuilds inputs: MSE 0.0040 [0.0030, 0.0050] against 0.0460 [0.0450, 0.0470] for the mean"
    )
    assert "91\u00a0% of the mean image's error removed" in found.text
    assert "re-identifies 99.0\u00a0% [98.0, 100.0] of them among 500 (chance 0.2\u00a0%)" in found.text


def test_a_small_gain_is_not_called_a_picture() -> None:
    found = judge(rows("mse", {"": (0.039, 0.040, 0.041), **PRIOR_MSE}), NAMED)
    assert found.outcome == "leak" and found.text.startswith("Rebuilds inputs faintly")


def test_low_error_with_chance_identification_is_no_full_leak() -> None:
    found = judge(CLOSE, UNNAMED)
    assert found.outcome == "part" and "cannot tell one from another" in found.text
    assert "not clearly better than a chance of 0.2\u00a0%" in found.text


def test_identity_without_a_picture_is_said() -> None:
    found = judge(FAR, NAMED)
    assert found.outcome == "part" and found.text.startswith("Does not rebuild inputs (MSE 0.0455")


def test_words_without_their_order_are_a_leak_in_part() -> None:
    prior, clear = {"commonest": (0.28, 0.30, 0.32)}, {"": (0.40, 0.42, 0.44)}
    unplaced = rows("words", {"": (0.0, 0.01, 0.02), "commonest": (0.01, 0.02, 0.03)})
    found = judge(unplaced, rows("words-found", clear | prior))
    assert found.outcome == "part" and found.text.startswith(
        "Finds words of the texts, but not their positions: Words found 0.420 [0.400, 0.440] against 0.300 "
        "[0.280, 0.320] for the commonest words"
    )
    placed = rows("words", {"": (0.97, 0.98, 0.99), "commonest": (0.01, 0.02, 0.03)})
    assert judge(placed, rows("words-found", clear | prior)).outcome == "leak"
    blind = judge(unplaced, rows("words-found", {"": (0.29, 0.30, 0.33)} | prior))
    assert blind.verdict.silent and blind.text.startswith("Is not shown to find the texts' words")


def test_overlap_with_the_prior_is_no_claim() -> None:
    found = judge(FAR, UNNAMED)
    assert found.verdict.silent and "not clearly better than 0.0460 [0.0450, 0.0470] for the mean image" in found.text
    assert found.text.startswith("Is not shown to rebuild inputs")


def test_an_attack_worse_than_the_prior_is_called_that() -> None:
    found = judge(rows("mse", {"": (0.06, 0.061, 0.062), **PRIOR_MSE}), UNNAMED)
    assert found.verdict.silent and "worse than 0.0460" in found.text


def test_every_prior_must_be_beaten_and_the_unbeaten_one_is_named() -> None:
    levels = {"": (0.70, 0.75, 0.80), "majority": (0.5, 0.5, 0.5), "conditional-majority": (0.68, 0.71, 0.74)}
    found = judge(rows("auc", levels))
    assert (
        found.verdict.silent
        and "not clearly better than 0.710 [0.680, 0.740] for the majority given the task" in found.text
    )


def test_chance_must_be_beaten_even_without_controls() -> None:
    assert judge(rows("auc", {"": (0.49, 0.52, 0.55)})).verdict.silent
    assert judge(rows("auc", {"": (0.51, 0.55, 0.59)})).outcome == "leak"


def test_no_yardstick_no_claim() -> None:
    found = judge(rows("mse", {"": (0.001, 0.002, 0.003)}))
    assert found.verdict.silent and "no baseline to compare" in found.text


def test_an_unknown_name_counts_as_a_baseline() -> None:
    levels = {"": (0.70, 0.75, 0.80), "made-up-by-a-user": (0.7, 0.75, 0.8)}
    assert judge(rows("auc", levels)).verdict.silent


def test_a_missing_interval_is_no_claim() -> None:
    assert judge(rows("mse", {"": (math.nan, 0.001, math.nan), **PRIOR_MSE})).verdict.silent
    assert judge(rows("auc", {"": (0.9, 0.95, 1.0), "majority": (math.nan, 0.5, math.nan)})).verdict.silent


def test_other_attackers_stand_beside_it_but_do_not_veto() -> None:
    others = {"ridge": (0.001, 0.002, 0.0025), "nearest": (0.05, 0.06, 0.07), "in-process": (0.003, 0.004, 0.005)}
    found = judge(rows("mse", {"": (0.003, 0.004, 0.005), **PRIOR_MSE, **others}), NAMED)
    assert found.outcome == "leak"
    (detail,) = found.detail
    assert "linear decoder (ridge) 0.0020 [0.0010, 0.0025]: clearly better than the attack" in detail
    assert "nearest neighbour 0.0600 [0.0500, 0.0700]: clearly worse than the attack" in detail
    assert "tensors handed over 0.0040 [0.0030, 0.0050]: not distinguishable from the attack" in detail


interval = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(lambda ends: tuple(sorted(ends)))


@given(interval, interval, interval)
def test_a_leak_is_claimed_exactly_when_intervals_lie_clear(own: Interval, first: Interval, second: Interval) -> None:
    found = judge(rows("auc", {"": own, "majority": first, "permuted": second}))
    assert (found.outcome == "leak") == (own[0] > max(first[2], second[2], 0.5))


def test_negative_results_under_tls_are_told_once_with_their_numbers() -> None:
    made = synthetic.results()
    found = findings(made)
    assert found[-1].verdict.silent and found[-1].where == "Under TLS"
    assert "None of 4 attacks is shown" in found[-1].text and len(found[-1].detail) == 4
    assert len(found) == 9 and sum("TLS" in one.where for one in found) == 1


def test_a_leak_under_tls_is_not_hidden() -> None:
    made = synthetic.results()
    for row in made.rows:
        if row.link == "tls" and row.target == "slant" and row.role == "attack" and row.measure == "auc":
            row.value, row.low, row.high = 0.9, 0.88, 0.92
    found = findings(made)
    assert [one.where for one in found if one.outcome == "leak" and "TLS" in one.where] == [
        "Cut 1, TLS · slant by attributes"
    ]
    assert "None of 3 attacks is shown" in found[-1].text


def test_variants_that_would_share_a_title_are_told_apart() -> None:
    made = synthetic.results((0,))
    made.variants[1].cut = 1
    assert titles(made) == {"cut1": "Cut 1 (cut1)", "cut4": "Cut 1 (cut4)", "cut1-tls": "Cut 1, TLS"}


@pytest.mark.parametrize("several", [False, True])
def test_the_vantage_is_named_where_there_are_several(several: bool) -> None:
    (board,) = boards(CLOSE)
    assert ("eavesdropper" in finding(board, "Cut 1", several).where) == several
