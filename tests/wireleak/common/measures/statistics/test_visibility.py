"""How an update stands out, against scipy and against cases that can be told by hand."""

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from wireleak.common.measures.statistics.visibility import cosines, norm_ratios

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
