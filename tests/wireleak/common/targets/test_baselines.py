from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from adversary.attacks.harness.knowledge import Knowledge
from wireleak.common.targets import baselines
from wireleak.common.targets.attribute import PrivateAttribute

RNG = np.random.default_rng(0)


def problem(n: Any, width: Any) -> Any:
    return RNG.standard_normal((n, width)).astype(np.float32) * RNG.uniform(0.1, 5, width).astype(np.float32) + 3


def known(attribute: Any, labels: Any, augmented: Any = None) -> Knowledge:
    n = len(attribute)
    inputs = np.arange(n * 4, dtype=np.float32).reshape(n, 1, 2, 2)
    none = np.zeros(n, bool) if augmented is None else np.asarray(augmented)
    attribute, labels = np.asarray(attribute), np.asarray(labels)
    return Knowledge(np.zeros((n, 2), np.float32), inputs, labels, attribute, int(attribute.max()) + 1, none, 0)


def test_nearest_is_scikit_learns() -> None:
    z = problem(150, 7)
    x, queries = RNG.random((150, 1, 3, 3)).astype(np.float32), problem(40, 7)
    scaler = StandardScaler().fit(z)
    theirs = KNeighborsRegressor(1).fit(scaler.transform(z), x.reshape(150, -1))
    expected = theirs.predict(scaler.transform(queries)).reshape(40, 1, 3, 3)
    assert np.array_equal(baselines.nearest(z, x, queries), expected)


@pytest.mark.parametrize("n", [2, 3, 500])
def test_derangement_moves_everything(n: int) -> None:
    partner = baselines.derangement(n, 0)
    assert sorted(partner) == list(range(n)) and (partner != np.arange(n)).all()


def test_mean_and_majority_know_no_copies() -> None:
    one = known([0, 0, 1, 2], [0, 0, 0, 0], augmented=[False, False, False, True])
    assert np.array_equal(baselines.mean_input(one.without_copies().inputs)[0], one.inputs[:3].mean(0))
    np.testing.assert_allclose(PrivateAttribute("left").prior(one.without_copies()), [[2 / 3, 1 / 3, 0]])


def test_conditional_majority_follows_the_answer() -> None:
    one = known([0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1])
    answers = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0, 0, 1]], np.float32)
    # No input of the attacker's has the third label: the overall frequencies.
    np.testing.assert_allclose(
        baselines.majority_per_prediction(one, answers), [[2 / 3, 1 / 3], [0.0, 1.0], [1 / 3, 2 / 3]], rtol=1e-6
    )


def test_permuted_keeps_the_pairs_and_the_marginal() -> None:
    one = known(np.arange(100) % 3, np.zeros(100, int))
    other = one.permuted(np.random.default_rng(0))
    assert one.attribute is not None and other.attribute is not None
    assert np.array_equal(np.bincount(other.attribute), np.bincount(one.attribute))
    assert (other.attribute != one.attribute).any() and other.inputs is not None
    assert np.array_equal(other.inputs, one.inputs)
