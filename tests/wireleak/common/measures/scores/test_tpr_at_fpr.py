"""Membership's measures against scikit-learn's curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from wireleak.common import measures
from wireleak.common.measures.scores.tpr_at_fpr import membership_scores
from wireleak.common.measures.statistics.bootstrap import resampled_by


def guesses(n: int, levels: int, seed: int, pull: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    truth = draw.permutation(np.arange(n) % 2)
    score = np.floor((pull * truth + draw.random(n)) / (1 + pull) * levels) / levels
    return np.stack([1 - score, score], 1), truth


def found(guess: Any, truth: Any) -> Any:
    return {one.measure: one for one in membership_scores(guess, truth, np.random.default_rng(0))}


@settings(max_examples=40, deadline=None)
@given(n=st.integers(4, 400), levels=st.sampled_from([3, 10, 10**6]), seed=st.integers(0, 10**6))
def test_all_four_are_scikit_learns(n: Any, levels: Any, seed: Any) -> None:
    guess, truth = guesses(n, levels, seed)
    scores = found(guess, truth)
    fpr, tpr, _ = sklearn.metrics.roc_curve(truth, guess[:, 1], drop_intermediate=False)
    expected = tpr[fpr <= 0.01].max() if (truth == 0).sum() >= 100 else np.nan
    assert scores["tpr-at-1"].value == pytest.approx(expected, nan_ok=True)
    assert np.isnan(scores["tpr-at-0.1"].value)
    assert scores["auc"].value == pytest.approx(sklearn.metrics.roc_auc_score(truth, guess[:, 1]))
    precision, recall, _ = sklearn.metrics.precision_recall_curve(truth, guess[:, 1])
    assert scores["precision-at-recall-1"].value == pytest.approx(precision[recall == 1].max())


def test_intervals_hold_the_value_and_narrow_with_more_records() -> None:
    few, many = (found(*guesses(n, 10**6, 1, pull=0.5))["tpr-at-1"] for n in (200, 3000))
    assert few.low <= few.value <= few.high and many.low < many.value < many.high
    assert many.high - many.low < few.high - few.low
    assert few.chance == 0.01 and many.n == 3000


def test_chance_perfection_and_a_constant_guess() -> None:
    truth = np.arange(4000) % 2
    blind = np.random.default_rng(3).random(4000)
    scores = found(np.stack([1 - blind, blind], 1), truth)
    assert scores["tpr-at-1"].value < 0.03 and scores["tpr-at-0.1"].value < 0.01
    exact = found(np.eye(2)[truth], truth)
    assert [exact[name].value for name in ("auc", "tpr-at-1", "tpr-at-0.1", "precision-at-recall-1")] == [1, 1, 1, 1]
    constant = found(np.full((4000, 2), 0.5), truth)
    assert constant["tpr-at-1"].value == 0 and constant["precision-at-recall-1"].value == 0.5


def test_a_rate_below_one_non_member_is_refused_and_says_how_many_it_needs() -> None:
    few = found(*guesses(198, 10**6, 1))["tpr-at-1"]
    assert np.isnan(few.value) and measures.quantity("tpr-at-1").write(few.value) == "needs 100 non-members"
    assert not np.isnan(found(*guesses(200, 10**6, 1))["tpr-at-1"].value)
    # 2,000 records of 12 persons are 12 samples.
    with resampled_by(np.arange(2000) % 12):
        scores = found(*guesses(2000, 10**6, 1))
    assert np.isnan(scores["tpr-at-1"].value) and not np.isnan(scores["auc"].value)


def test_without_members_there_is_no_rate() -> None:
    guess = np.random.default_rng(0).random((20, 2))
    scores = found(guess, np.zeros(20, np.int64))
    assert np.isnan(scores["tpr-at-1"].value) and np.isnan(scores["precision-at-recall-1"].value)


def test_they_are_no_measures_of_attributes() -> None:
    assert {"tpr-at-1", "tpr-at-0.1", "precision-at-recall-1"} <= set(measures.names("member"))
    assert not {"tpr-at-1", "mape"} & {*measures.names("attribute"), *measures.names("reconstruction")}
    with pytest.raises(ValueError, match="tpr-at-1 scores member, not attribute"):
        measures.score_attribute(*guesses(20, 5, 0), np.random.default_rng(0), ["tpr-at-1"])
