"""Divisors of features that hardly vary."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from wireleak.common.standard import divisors


def test_features_that_vary_are_standardised_as_by_scikit_learn() -> None:
    rows = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32) * [0.5, 1, 2, 3, 4]
    np.testing.assert_allclose(divisors(rows.std(0), 100), StandardScaler().fit(rows).scale_, rtol=1e-5)


def test_a_feature_that_was_constant_does_not_drown_the_others_of_a_later_row() -> None:
    rows = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    rows[:, 2] = 0
    scale = divisors(rows.std(0), 400)
    assert 1 / scale[2] == pytest.approx(np.sqrt(400), rel=0.2), "a usual value is as far as twenty deviations"
    assert np.isfinite(1 / divisors(np.zeros(3), 4)).all()
