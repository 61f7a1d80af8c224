"""Scores of a control that was drawn several times."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from wireleak.common.measures import score_attribute
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
