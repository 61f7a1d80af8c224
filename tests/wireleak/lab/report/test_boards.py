"""When scores are paired by seed, and when their intervals are compared."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from wireleak.lab.report.boards import SeedMean, above_chance, compare, paired_difference


def score(*values: float, name: str = "") -> SeedMean:
    shared: Any = {"study": "s", "variant": "v", "link": "plaintext", "vantage": "link", "attack": "a", "target": "t"}
    return SeedMean(
        **shared,
        measure="auc",
        value=sum(values) / len(values),
        low=min(values) - 0.1,
        high=max(values) + 0.1,
        n=100,
        role="attack" if not name else "baseline",
        name=name,
        seeds=len(values),
        chance=0.5,
        by_seed=tuple(enumerate(values)),
    )


@pytest.mark.parametrize(("seeds", "verdict"), [(1, "overlap"), (2, "overlap"), (3, "better"), (4, "better")])
def test_differences_count_only_from_three_seeds_on(seeds: int, verdict: str) -> None:
    """The same difference in every seed: by pairs it is certain, by intervals it is not shown."""
    ours = score(*[0.60 + 0.1 * seed for seed in range(seeds)])
    theirs = score(*[0.55 + 0.1 * seed + 0.0001 * (seed % 2) for seed in range(seeds)], name="majority")
    assert compare(ours, theirs) == verdict
    assert (paired_difference(ours, theirs) is None) == (seeds < 3)


def test_two_seeds_are_better_only_with_intervals_that_do_not_overlap() -> None:
    assert compare(score(0.9, 0.91), score(0.5, 0.51, name="majority")) == "better"
    assert compare(score(0.5, 0.51), score(0.9, 0.91, name="majority")) == "worse"
    assert paired_difference(score(0.9, math.nan, 0.9), score(0.5, 0.5, 0.5)) is None


def test_an_interval_that_begins_at_chance_is_not_above_it_by_rounding() -> None:
    named = replace(score(0.13), measure="reid", low=0.043478260869565216, high=0.26, chance=0.04347826086956521)
    assert named.chance is not None and named.low > named.chance and not above_chance(named)
    assert above_chance(replace(named, low=0.05)) and not above_chance(replace(named, low=math.nan))
