"""Measures of hidden pictures against scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error
from sklearn.metrics.pairwise import cosine_similarity

from wireleak.common.measures.scores.hidden_data import secret_scores


def found(guess: Any, truth: Any) -> Any:
    return {one.measure: one for one in secret_scores(guess, truth, np.random.default_rng(0))}


def test_they_are_scikit_learns() -> None:
    draw = np.random.default_rng(1)
    truth = draw.random((30, 1, 8, 8)).astype(np.float32)
    guess = np.clip(truth + 0.2 * draw.normal(size=truth.shape), 0, 1).astype(np.float32)
    scores, flat = found(guess, truth), (guess.reshape(30, -1), truth.reshape(30, -1))
    assert scores["mape"].value == pytest.approx(255 * mean_absolute_error(*flat), rel=1e-5)
    assert scores["cosine"].value == pytest.approx(np.diag(cosine_similarity(*flat)).mean(), rel=1e-5)
    assert scores["mse"].value == pytest.approx(((guess - truth) ** 2).mean(), rel=1e-5)
    assert scores["mape"].low < scores["mape"].value < scores["mape"].high


def test_bits_are_counted_one_by_one() -> None:
    truth = np.array([[[0b10110001]], [[0]]], np.float64) / 255
    guess = np.array([[[0b10110111]], [[0b10000000]]], np.float64) / 255
    assert found(guess, truth)["bit-accuracy"].value == pytest.approx(1 - 3 / 16)


def test_a_black_picture_has_no_direction() -> None:
    truth = np.random.default_rng(0).random((5, 1, 4, 4))
    scores = found(np.zeros_like(truth), truth)
    assert scores["cosine"].value == 0 and np.isfinite(scores["cosine"].low)
