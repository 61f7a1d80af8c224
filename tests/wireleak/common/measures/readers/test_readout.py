"""The linear readout against scikit-learn's ridge, on data whose R^2 is known, and on none."""

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from wireleak.common.measures.readers.reading import split_rows
from wireleak.common.measures.readers.readout import PENALTIES, components, linear_readout


def linear(n: Any = 240, width: Any = 12, noise: Any = 0.0, seed: Any = 0) -> Any:
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(n, width))
    targets = rows[:, :3] @ draw.normal(size=(3, 4)) + 5
    return rows, targets + noise * targets.std() * draw.normal(size=targets.shape)


@pytest.mark.parametrize("width", [12, 400])
def test_it_is_scikit_learns_ridge_with_the_penalty_chosen_on_other_rows(width: int) -> None:
    rows, targets = linear(120, width, noise=0.5)
    groups = np.arange(120) // 10
    left = total = 0.0
    for fitting, choosing, held in split_rows(np.zeros(120, np.int64), groups, 3, 0):
        size = ((rows[fitting] - rows[fitting].mean(0)) ** 2).sum() / len(fitting)
        fitted = [
            Ridge(alpha=penalty * size, solver="svd").fit(rows[fitting], targets[fitting]) for penalty in PENALTIES
        ]
        best = min(fitted, key=lambda one: ((one.predict(rows[choosing]) - targets[choosing]) ** 2).sum())
        left += ((best.predict(rows[held]) - targets[held]) ** 2).sum()
        total += ((targets[fitting].mean(0) - targets[held]) ** 2).sum()
    assert linear_readout(rows, targets, groups, permutations=0).share == pytest.approx(1 - left / total, abs=1e-6)


def test_all_half_and_nothing_are_told_apart_and_the_null_is_nothing() -> None:
    rows, targets = linear()
    assert linear_readout(rows, targets, permutations=0).share > 0.999
    rows, targets = linear(1200, noise=1.0)
    assert linear_readout(rows, targets, permutations=0).share == pytest.approx(0.5, abs=0.05)
    found = linear_readout(np.random.default_rng(9).normal(size=targets.shape), targets, permutations=20)
    assert abs(found.share) < 0.02 and len(found.null) == 20 and abs(np.mean(found.null)) < 0.02


def test_what_only_tells_the_group_is_not_counted() -> None:
    # Each group has a mark of its own and a target of its own: whoever has seen the group knows the target.
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 20)
    marks = draw.normal(size=(12, 30))[groups] + 0.01 * draw.normal(size=(240, 30))
    targets = draw.normal(size=(12, 4))[groups]
    assert linear_readout(marks, targets, permutations=0).share > 0.9
    assert linear_readout(marks, targets, groups, permutations=0).share < 0.2


def test_components_are_scikit_learns() -> None:
    inputs = np.random.default_rng(0).normal(size=(60, 1, 5, 5)) * np.linspace(1, 4, 25).reshape(5, 5)
    centre, directions = components(inputs, 6)
    reference = PCA(6).fit(inputs.reshape(60, -1))
    np.testing.assert_allclose(centre, reference.mean_)
    np.testing.assert_allclose(np.abs(np.diag(reference.components_ @ directions)), 1, atol=1e-6)


def test_a_layer_that_never_moves_tells_nothing() -> None:
    _, targets = linear(60)
    assert linear_readout(np.zeros((60, 5)), targets, permutations=0).share == pytest.approx(0, abs=0.05)


def test_lengths_that_differ_and_targets_that_do_not_vary_are_named() -> None:
    with pytest.raises(ValueError, match="one row of targets per row"):
        linear_readout(np.ones((4, 3)), np.ones((5, 2)))
    with pytest.raises(ValueError, match="every row has the same targets"):
        linear_readout(np.random.default_rng(0).normal(size=(24, 3)), np.ones((24, 2)))
