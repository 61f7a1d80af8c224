"""Exposure (Carlini et al., USENIX Security 2019): known ranks, and the extrapolation against the exact rank."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import skewnorm

from wireleak.common.measures.statistics.exposure import by_extrapolation, by_rank


@pytest.mark.parametrize("size", [10, 1000, 4096])
def test_a_secret_that_ranks_first_has_all_the_bits(size: int) -> None:
    others = np.random.default_rng(0).normal(40, 5, size - 1)
    assert by_rank(1.0, [1.0, *others]) == pytest.approx(math.log2(size))
    assert by_rank(99.0, [99.0, *others]) == 0


def test_a_secret_never_seen_has_the_bits_of_a_uniform_rank() -> None:
    """Mean of -log2 U, U uniform: 1 / ln 2 = 1.44 bits."""
    draw = np.random.default_rng(1)
    candidates = draw.normal(40, 5, 2000)
    found = [by_rank(one, candidates) for one in draw.permutation(candidates)]
    assert np.mean(found) == pytest.approx(1 / math.log(2), abs=0.02)


def test_ties_count_against_the_attacker() -> None:
    assert by_rank(3.0, [3.0] * 8) == 0
    assert by_rank(3.0, [3.0, 3.0, 4.0, 5.0]) == 1


def test_extrapolation_agrees_with_the_rank_where_both_can_be_had() -> None:
    everything = np.sort(skewnorm.rvs(4, 30, 6, size=20_000, random_state=2))
    sampled = np.random.default_rng(3).choice(everything, 2000, replace=False)
    for rank in (10_000, 2_000, 200):
        exact = by_rank(everything[rank], everything)
        assert by_extrapolation(everything[rank], sampled) == pytest.approx(exact, abs=0.35)


def test_extrapolation_reaches_beyond_the_samples() -> None:
    """Five standard deviations below a normal mean: -log2 of scipy's own tail."""
    sampled = np.random.default_rng(4).normal(100, 4, 5000)
    found = by_extrapolation(80.0, sampled)
    assert found > by_rank(80.0, [80.0, *sampled]) + 3
    # A fitted skewness of nearly 0 moves the far tail by a few bits.
    assert found == pytest.approx(21.7, abs=5)
    assert by_extrapolation(140.0, sampled) == pytest.approx(0, abs=0.01)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="draw 10 or more"):
        by_extrapolation(1.0, [1.0, 2.0])
    with pytest.raises(ValueError, match="must be finite"):
        by_rank(math.nan, [1.0])
    with pytest.raises(ValueError, match="at least one"):
        by_rank(1.0, [])
