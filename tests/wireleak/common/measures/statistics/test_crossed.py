"""Simulations of the crossed bootstrap: coverage, false alarms, and corrections for several comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wireleak.common.measures.scores.auc import AreaUnderCurve
from wireleak.common.measures.statistics.bootstrap import (
    crossed,
    interval,
    mean_score,
    over_seeds,
    resampled_by,
    unit_weights,
)
from wireleak.common.measures.statistics.several import p_value, resolved

SEEDS, VICTIMS, RUNS, RESAMPLES = 3, 60, 150, 150


def drawn(rng: np.random.Generator, of_seed: float, of_unit: float, shared: bool) -> tuple[Any, Any]:
    """One run's scores: a mean over victims of seed effect + unit effect + noise, and its resamples."""
    names = rng.integers(0, 2**40, (1 if shared else SEEDS, VICTIMS))
    effect = of_unit * rng.standard_normal(names.shape)
    rows = rng.standard_normal((SEEDS, VICTIMS)) + of_seed * rng.standard_normal((SEEDS, 1)) + effect
    weights = rng.poisson(1.0, (RESAMPLES, *names.shape)).astype(np.float64)
    total = weights.sum(-1)
    draws = np.einsum("bsn,sn->sb", np.broadcast_to(weights, (RESAMPLES, SEEDS, VICTIMS)), rows) / total.T
    return rows.mean(1), draws


@pytest.mark.parametrize(
    ("of_seed", "of_unit", "shared", "least"),
    [
        (0.0, 0.0, False, 0.94),  # seeds differ by their victims only: wider than needed
        (0.0, 1.0, True, 0.91),  # seeds share their victims
        (0.13, 0.0, False, 0.89),  # a seed's own effect is as large as a seed's sampling error
    ],
)
def test_the_interval_covers_the_truth(of_seed: float, of_unit: float, shared: bool, least: float) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(RUNS):
        low, high = interval(crossed(*drawn(rng, of_seed, of_unit, shared)))
        covered += low <= 0 <= high
    assert covered / RUNS >= least


def test_seeds_that_share_their_victims_are_not_three_samples() -> None:
    rng = np.random.default_rng(2)
    widths: dict[bool, list[float]] = {shared: [] for shared in (False, True)}
    for shared, found in widths.items():
        for _ in range(50):
            low, high = interval(crossed(*drawn(rng, 0.0, 3.0, shared)))
            found.append(high - low)
    assert np.mean(widths[True]) > 1.1 * np.mean(widths[False])


def test_a_person_is_drawn_as_a_whole_and_alike_in_every_seed() -> None:
    units = np.array([7, 7, 9, -3], np.int64)
    weights = unit_weights(units)
    assert (weights[:, 0] == weights[:, 1]).all() and weights.mean() == pytest.approx(1, abs=0.1)
    assert (unit_weights(np.array([9, 1], np.int64))[:, 0] == weights[:, 2]).all()


def test_clusters_widen_an_interval_as_their_number_tells() -> None:
    """Twelve persons with 50 rows each, all rows of a person alike: twelve samples, not 600."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(12), 50)
    values = rng.standard_normal(12)[people]
    single = mean_score("mse", values, np.random.default_rng(0))
    with resampled_by(people):
        whole = mean_score("mse", values, np.random.default_rng(0))
    assert (whole.high - whole.low) / (single.high - single.low) == pytest.approx(np.sqrt(50), rel=0.15)


def test_scores_of_other_rows_resample_single_rows() -> None:
    values = np.arange(30.0)
    with resampled_by(np.arange(12)):
        inside = mean_score("mse", values, np.random.default_rng(0))
    assert inside == mean_score("mse", values, np.random.default_rng(0))


def test_a_useless_attack_is_called_a_leak_in_less_than_one_run_of_twenty() -> None:
    """The rule on AUC against chance, with three seeds: one side of the 95 % interval."""
    alarms, auc = 0, AreaUnderCurve()
    for run in range(60):
        rng = np.random.default_rng([7, run])
        values: list[float] = []
        draws: Any = []
        for _ in range(SEEDS):
            truth, score = rng.integers(0, 2, 100), rng.random(100)
            found = auc(np.stack([1 - score, score], 1), truth, rng)
            values.append(found.value)
            draws.append(found.draws)
        alarms += interval(crossed(np.array(values), np.stack(draws)))[0] > 0.5
    assert alarms <= 3


@pytest.mark.parametrize(
    ("p_values", "shown"),
    [
        # Worked by hand: .01 <= .05/4, then .015 <= .05/3, then .03 > .05/2 ends the list.
        ([0.015, 0.5, 0.01, 0.03], [True, False, True, False]),
        ([0.02, 0.02, 0.02], [False, False, False]),
        ([float("nan"), 0.001], [False, True]),
        ([], []),
    ],
)
def test_holms_correction(p_values: Any, shown: Any) -> None:
    assert resolved(p_values) == shown


def test_forty_useless_settings_are_rarely_said_to_help() -> None:
    rng = np.random.default_rng(3)
    said = [any(resolved([p_value(x, 1.0) for x in rng.standard_normal(40)])) for _ in range(400)]
    assert np.mean(said) < 0.08


@pytest.mark.filterwarnings("error")
def test_without_one_defined_resample_there_is_no_interval_and_no_warning() -> None:
    found = over_seeds([0.5, 0.7], [np.full(10, np.nan), np.full(10, 0.7)])
    assert np.isnan([found.low, found.high, found.error]).all()
