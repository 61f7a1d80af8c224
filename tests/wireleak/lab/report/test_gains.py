"""A variant against the one that the study names for it: paired by seed, as scipy pairs, and told on the page."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from tests.wireleak.lab.report import synthetic
from wireleak.lab.report import page as report
from wireleak.lab.report.gains import gains
from wireleak.lab.run import results as r

SEEDS = (0, 1, 2, 3)


def compared(against: str = "cut4") -> r.Results:
    found = synthetic.results(SEEDS)
    variants = [one.model_copy(update={"against": against if one.name == "cut1" else ""}) for one in found.variants]
    return found.model_copy(update={"variants": variants})


def scores(results: r.Results, variant: str, target: str) -> list[float]:
    rows = [one for one in results.rows if one.role == "attack" and one.measure == "auc"]
    return [one.value for one in rows if (one.variant, one.target) == (variant, target)]


def test_the_difference_is_that_of_a_paired_t_test() -> None:
    results = compared()
    slant = next(one for one in gains(results) if one.target == "slant")
    ours, theirs = (np.array(scores(results, name, "slant")) for name in ("cut1", "cut4"))
    wanted = ttest_rel(ours, theirs)
    interval = wanted.confidence_interval()
    assert slant.spread.value == pytest.approx((ours - theirs).mean())
    assert (slant.spread.low, slant.spread.high) == pytest.approx((interval.low, interval.high))
    assert slant.spread.p == pytest.approx(wanted.pvalue)
    assert (slant.seeds, slant.shown) == (4, True)
    assert slant.written.startswith("+0.")


def test_a_difference_without_an_interval_has_no_brackets() -> None:
    results = compared()
    rows = [row for row in results.rows if row.role != "attack" or row.variant != "cut1" or row.seed == SEEDS[0]]
    slant = next(one for one in gains(results.model_copy(update={"rows": rows})) if one.target == "slant")
    assert np.isnan(slant.spread.low) and "[" not in slant.written


def test_only_named_variants_are_compared_and_accuracy_with_them() -> None:
    assert gains(synthetic.results(SEEDS)) == []
    assert {(one.variant, one.against) for one in gains(compared())} == {("cut1", "cut4")}
    (accuracy,) = [one for one in gains(compared()) if not one.attack]
    assert accuracy.measure == "accuracy"
    assert accuracy.written.endswith(" points")


def test_a_difference_of_nothing_is_not_shown() -> None:
    results = compared()
    same = [one.model_copy(update={"variant": "cut4"}) for one in results.rows if one.variant == "cut1"]
    results = results.model_copy(update={"rows": [one for one in results.rows if one.variant == "cut1"] + same})
    assert not any(one.shown for one in gains(results) if one.attack)


def test_the_page_has_the_table() -> None:
    html = report.page(compared())
    assert "Variants compared" in html
    assert next(one.written for one in gains(compared()) if one.target == "slant") in html
    assert "Variants compared" not in report.page(synthetic.results(SEEDS))
