import numpy as np
import pytest

from wireleak.measures import get, score_reconstruction

TRUTH = np.array([[3.0, 4, 5, 0], [7, 0, 0, 0], [1, 2, 3, 4]])


def test_words_count_at_their_place_and_padding_does_not():
    guess = np.array([[3.0, 5, 4, 0], [7, 7, 7, 7], [1, 2, 3, 9]])
    assert get("words")(guess, TRUTH, np.random.default_rng(0)).value == pytest.approx((1 / 3 + 1 + 3 / 4) / 3)
    assert get("words")(TRUTH, TRUTH, np.random.default_rng(0)).value == 1
    assert get("words")(0 * TRUTH, TRUTH, np.random.default_rng(0)).value == 0


def test_texts_alone_are_scored_by_words():
    rng = np.random.default_rng(0)
    assert "words" in {score.measure for score in score_reconstruction(TRUTH, TRUTH, rng)}
    assert "words" not in {score.measure for score in score_reconstruction(TRUTH / 2, TRUTH / 2, rng)}
    assert "words" not in {score.measure for score in score_reconstruction(TRUTH, TRUTH, rng, only=["mse"])}
