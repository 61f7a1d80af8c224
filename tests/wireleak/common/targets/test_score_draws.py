"""Scores of a control that was drawn several times."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from wireleak.common.measures import score_attribute
from wireleak.common.references import reference, window_of
from wireleak.common.targets.attribute import PrivateAttribute, Values
from wireleak.common.targets.target import _over_draws


def test_several_draws_score_as_their_mean_and_one_as_itself() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 40)
    right = rng.random((6, 40)).astype(np.float32)
    guesses = np.stack([1 - right, right], axis=-1)
    each = [roc_auc_score(truth, guess[:, 1]) for guess in guesses]
    auc = next(one for one in _over_draws(guesses, truth, rng, score_attribute) if one.measure == "auc")
    half = stats.t.ppf(0.975, 5) * stats.sem(each)
    assert (auc.value, auc.low, auc.high) == pytest.approx((np.mean(each), np.mean(each) - half, np.mean(each) + half))
    assert auc.n == 40 and auc.chance == 0.5
    alone = next(one for one in _over_draws(guesses[0], truth, rng, score_attribute) if one.measure == "auc")
    assert alone.value == pytest.approx(each[0]) and alone.low < each[0] < alone.high


def test_updates_of_one_client_that_share_a_value_are_one_sample() -> None:
    """Eight rounds of twelve clients say as much as one round of each, where a client's updates look alike."""
    rng, target = np.random.default_rng(0), PrivateAttribute("gender")
    score = rng.random(12).astype(np.float32)
    value = (np.arange(12) % 2).astype(np.int64)
    width = {}
    for rounds in (1, 8):
        guess = np.repeat(np.stack([1 - score, score], 1), rounds, axis=0)
        truth = Values(np.repeat(value, rounds), None, np.repeat(np.arange(12), rounds))
        found = next(one.score for one in target.score({"": guess}, truth, 0) if one.score.measure == "auc")
        width[rounds] = found.high - found.low
    assert width[8] == pytest.approx(width[1]) and width[8] > 0.4
    # Where rounds of one client differ in their value, each counts.
    mixed = Values(np.arange(96) % 2, None, np.repeat(np.arange(12), 8))
    found = next(one.score for one in target.score({"": guess}, mixed, 0) if one.score.measure == "auc")
    assert found.high - found.low < 0.3


def test_a_long_training_is_scored_in_windows_of_rounds_too() -> None:
    """Oracle: scikit-learn's AUC of each eighth of the rounds."""
    rng = np.random.default_rng(0)
    rounds, senders = np.arange(3, 163), np.full(160, 1)
    values = (rng.random(160) < 0.5).astype(np.int64)
    right = np.clip(rng.random(160) + 0.3 * values * (rounds > 80), 0, 1).astype(np.float32)
    guess = {"": np.stack([1 - right, right], 1), "majority": np.full((160, 2), 0.5, np.float32)}
    found = PrivateAttribute("thickness").score(guess, Values(values, None, senders, rounds), 0)
    windows = {window_of(one.guess): one.score.value for one in found if window_of(one.guess)}
    wanted = {
        (int(part[0]), int(part[-1])): roc_auc_score(values[part - 3], right[part - 3])
        for part in np.array_split(rounds, 8)
    }
    assert windows == pytest.approx(wanted) and len(windows) == 8
    assert {reference(one.guess).role for one in found if window_of(one.guess)} == {"window"}
    short = PrivateAttribute("thickness").score(guess, Values(values, None, senders, rounds % 40), 0)
    assert not any(window_of(one.guess) for one in short)
