"""How an update stands out, against scipy and against cases that can be told by hand."""

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from sklearn.decomposition import PCA

from wireleak.common.measures.statistics.visibility import cosines, norm_ratios, outlier_scores

RNG = np.random.default_rng(0)


def update(scale: Any = 1.0) -> Any:
    return {
        "0.weight": (scale * RNG.standard_normal((7, 5))).astype(np.float32),
        "0.bias": (scale * RNG.standard_normal(7)).astype(np.float32),
    }


def flat(one: Any) -> Any:
    return np.concatenate([value.ravel() for value in one.values()])


def test_scipy_finds_the_same_cosine_and_numpy_the_same_lengths() -> None:
    updates = [update() for _ in range(5)]
    rows = np.stack([flat(one) for one in updates]).astype(float)
    for at in range(5):
        others = np.delete(rows, at, 0)
        assert cosines(updates)[at] == pytest.approx(1 - cosine(rows[at], others.mean(0)), abs=1e-9)
        median = np.median(np.linalg.norm(others, axis=1))
        assert norm_ratios(updates)[at] == pytest.approx(np.linalg.norm(rows[at]) / median)


def test_a_boosted_update_is_longer_and_points_the_same_way() -> None:
    base = update()
    boosted = {name: 10 * value for name, value in base.items()}
    assert norm_ratios([boosted, base, base]) == pytest.approx([10, 1 / 5.5, 1 / 5.5])
    assert cosines([boosted, base, base]) == pytest.approx([1, 1, 1])


def test_an_update_against_the_others_points_the_other_way() -> None:
    base = update()
    assert cosines([{name: -value for name, value in base.items()}, base, base])[0] == pytest.approx(-1)


@pytest.mark.parametrize("participants", [3, 5, 12])
def test_outlier_scores_are_squared_first_components_of_a_pca(participants: int) -> None:
    updates = [update(3.0 if at == 1 else 1.0) for at in range(participants)]
    rows = np.stack([flat(one) for one in updates]).astype(float)
    expected = np.square(PCA(1, svd_solver="full").fit_transform(rows)[:, 0])
    np.testing.assert_allclose(outlier_scores(updates), expected, rtol=1e-8)
    centred = rows - rows.mean(0)
    np.testing.assert_allclose(outlier_scores(updates), np.square(centred @ np.linalg.svd(centred)[2][0]), rtol=1e-8)


def test_the_outlier_of_a_large_model_is_found_on_some_coordinates() -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((8, 40_000)) + rng.standard_normal(40_000)
    rows[3] += 0.5 * rng.standard_normal(40_000) - 1
    scores = outlier_scores([{"0.weight": row.astype(np.float32)} for row in rows])
    assert scores.argmax() == 3 and scores[3] > 20 * np.delete(scores, 3).max()
    whole = np.square(PCA(1, svd_solver="full").fit_transform(rows)[:, 0])
    assert scores[3] == pytest.approx(whole[3] / 4, rel=0.05)  # a quarter of the coordinates


def test_two_participants_and_equal_updates_are_no_outliers() -> None:
    first, second = outlier_scores([update(), update(10.0)])
    assert first == pytest.approx(second) and first > 0
    base = update()
    assert outlier_scores([base, base, base]) == pytest.approx([0, 0, 0], abs=1e-12)


def test_counters_are_not_looked_at_and_nothing_has_no_direction() -> None:
    base, still = update(), {name: 0 * value for name, value in update().items()}
    counted = [{**base, "0.num_batches_tracked": np.array(steps)} for steps in (1, 100)]
    assert norm_ratios(counted) == pytest.approx([1, 1])
    assert cosines([still, base]).tolist() == [0, 0]
    assert norm_ratios([base, still]).tolist() == [np.inf, 0]
    assert norm_ratios([still, still]).tolist() == [1, 1]


@pytest.mark.parametrize("others", [[], [{"0.weight": np.zeros((7, 5), np.float32)}]])
def test_what_cannot_be_compared_is_refused(others: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^updates: give at least two participants' updates, all with the same layers"
    ):
        cosines([update(), *others])
