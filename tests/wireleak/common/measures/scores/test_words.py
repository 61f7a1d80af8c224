import numpy as np
import pytest
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from wireleak.common.measures import get, score_reconstruction

TRUTH = np.array([[3.0, 4, 5, 0], [7, 0, 0, 0], [1, 2, 3, 4]])


def test_words_count_at_their_place_and_padding_does_not() -> None:
    guess = np.array([[3.0, 5, 4, 0], [7, 7, 7, 7], [1, 2, 3, 9]])
    assert get("words")(guess, TRUTH, np.random.default_rng(0)).value == pytest.approx((1 / 3 + 1 + 3 / 4) / 3)
    assert get("words")(TRUTH, TRUTH, np.random.default_rng(0)).value == 1
    assert get("words")(0 * TRUTH, TRUTH, np.random.default_rng(0)).value == 0


def test_words_found_are_scikit_learns_f1_of_sets() -> None:
    """Oracle: scikit-learn, of the texts as rows of a label matrix."""
    rng = np.random.default_rng(1)
    guess, truth = rng.integers(0, 30, (2, 50, 12)).astype(float)
    rows = [MultiLabelBinarizer(classes=range(1, 30)).fit_transform(np.where(x > 0, x, 1)) for x in (guess, truth)]
    # Padding became word 1 for the binarizer; both sides of ours get the same.
    guess, truth = np.where(guess > 0, guess, 1), np.where(truth > 0, truth, 1)
    ours = get("words-found")(guess, truth, rng)
    assert ours.value == pytest.approx(f1_score(rows[1], rows[0], average="samples"))
    assert ours.low < ours.value < ours.high


def test_words_found_know_neither_order_nor_padding() -> None:
    rng = np.random.default_rng(0)
    assert get("words-found")(TRUTH[:, ::-1], TRUTH, rng).value == 1
    assert get("words-found")(np.array([[3.0, 3, 0, 9]]), TRUTH[:1], rng).value == pytest.approx(2 * 1 / (2 + 3))
    assert get("words-found")(0 * TRUTH, 0 * TRUTH, rng).value == 1


def test_texts_are_scored_by_words_alone_and_nothing_else_is() -> None:
    rng = np.random.default_rng(0)
    assert {score.measure for score in score_reconstruction(TRUTH, TRUTH, rng)} == {"words", "words-found"}
    assert "words" not in {score.measure for score in score_reconstruction(TRUTH / 2, TRUTH / 2, rng)}
    assert "words" not in {score.measure for score in score_reconstruction(TRUTH, TRUTH, rng, only=["mse"])}
