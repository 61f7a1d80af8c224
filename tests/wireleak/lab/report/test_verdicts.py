"""Three verdicts with one owner: a leak, an upper bound on one, and neither."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.wireleak.lab.report.test_findings import PRIOR_MSE, PRIOR_REID, judge, rows
from wireleak.common.measures.statistics.power import detectable
from wireleak.lab.report.verdicts import Level, Verdict, gravest, of_interval


def test_a_narrow_interval_at_chance_bounds_the_leak_and_a_wide_one_resolves_nothing() -> None:
    narrow = judge(rows("auc", {"": (0.48, 0.51, 0.54)}))
    assert narrow.tag == "No leak above AUC 0.540"
    wide = judge(rows("auc", {"": (0.38, 0.52, 0.66)}))
    assert wide.tag == "Not resolved"
    for found, half in ((narrow, 0.03), (wide, 0.14)):
        seen = 0.5 + half * (1 + stats.norm.ppf(0.8) / stats.norm.ppf(0.975))
        assert f"The smallest leak that this design shows with probability 0.8: AUC {seen:.3f}." in found.text


def test_the_margin_counts_from_the_strongest_baseline() -> None:
    """The task label gives AUC 0.70, so an attack at 0.72 adds little, and its bound names the level."""
    levels = {"": (0.71, 0.72, 0.73), "conditional-majority": (0.70, 0.71, 0.72)}
    assert judge(rows("auc", levels)).tag == "No leak above AUC 0.740"
    assert judge(rows("auc", {"": (0.60, 0.72, 0.84), "conditional-majority": (0.7, 0.71, 0.72)})).outcome == "open"


def test_pixels_and_identity_must_both_be_bounded() -> None:
    blind = rows("mse", {"": (0.0455, 0.0456, 0.047), **PRIOR_MSE})
    assert judge(blind, rows("reid", {"": (0.0, 0.004, 0.01), **PRIOR_REID})).outcome == "bounded"
    assert judge(blind, rows("reid", {"": (0.0, 0.05, 0.1), **PRIOR_REID})).outcome == "open"


def test_no_interval_no_verdict() -> None:
    found = judge(rows("auc", {"": (math.nan, 0.5, math.nan)}))
    assert found.tag == "Not resolved" and "smallest" not in found.text


def test_the_gravest_verdict_counts_and_silent_ones_are_merged() -> None:
    bounded = [Verdict("bounded", (Level("auc", value),)) for value in (0.53, 0.58)]
    assert gravest(bounded).tag == "No leak above AUC 0.580"
    assert gravest([*bounded, Verdict("open")]).tag == "Not resolved"
    assert gravest([*bounded, Verdict("open"), Verdict("part")]).tag == "Leaks in part"


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.51, 0.7, "leak"), (0.4, 0.59, "bounded"), (0.4, 0.61, "open"), (math.nan, math.nan, "open")],
)
def test_a_setting_of_a_comparison_has_the_same_verdicts(low: Any, high: Any, outcome: Any) -> None:
    assert of_interval("auc", low, high, 0.5) == outcome


@pytest.mark.parametrize("seeds", [1, 3, 10])
def test_the_smallest_leak_is_shown_in_eight_of_ten_simulated_runs(seeds: int) -> None:
    rng = np.random.default_rng(0)
    count = 40_000
    if seeds == 1:
        half = stats.norm.ppf(0.975)
        shown = rng.normal(detectable(half), 1, count) > half
    else:
        edge = stats.t.ppf(0.975, seeds - 1)
        # The true half width of the mean of `seeds` values of deviation 1.
        effect = detectable(edge / math.sqrt(seeds), seeds)
        drawn = rng.normal(effect, 1, (count, seeds))
        shown = drawn.mean(1) > edge * drawn.std(1, ddof=1) / math.sqrt(seeds)
    assert shown.mean() == pytest.approx(0.8, abs=0.01)
