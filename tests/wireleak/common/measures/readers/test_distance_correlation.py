"""Distance correlation against its definition, against the package dcor, and against what two code bases compute."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from wireleak.common.measures.readers.distance_correlation import (
    corrected_distance_correlation,
    distance_correlation,
    distance_correlation_test,
)
from wireleak.common.measures.statistics.permutation import null_orders


def sample(seed: Any, n: Any, width: Any) -> Any:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, width))
    noise = draw.normal(size=(n, 2))
    return x, np.column_stack([x[:, 0] ** 2 + 0.5 * noise[:, 0], np.sin(x[:, -1]) * noise[:, 1]])


def by_definition(x: Any, y: Any, distances: Any) -> Any:
    """Székely 2007, entry by entry."""

    def centred(rows: Any) -> Any:
        d = distances(rows)
        n = len(d)
        return [[d[j, k] - d[j].mean() - d[:, k].mean() + d.mean() for k in range(n)] for j in range(n)]

    a, b = np.array(centred(x)), np.array(centred(y))
    return np.sqrt((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean()))


def linear_cka(x: Any, y: Any) -> Any:
    """Kornblith et al. 2019, on centred features."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(x.T @ y) ** 2 / (
        np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    )  # Frobenius norms of the cross-products


# dcor 0.7: distance_correlation and u_distance_correlation_sqr of `sample(*arguments)`.
@pytest.mark.parametrize(
    ("arguments", "biased", "corrected"),
    [
        ((0, 60, 3), 0.538421469773353, 0.19369932297064543),
        ((1, 200, 1), 0.5040559897843739, 0.22584565027820067),
        ((2, 25, 40), 0.6402114277689518, -0.019195680703401094),
    ],
)
def test_it_agrees_with_the_package_dcor(arguments: Any, biased: float, corrected: float) -> None:
    x, y = sample(*arguments)
    assert distance_correlation(x, y) == pytest.approx(biased, abs=1e-9)
    assert corrected_distance_correlation(x, y) == pytest.approx(corrected, abs=1e-9)


def test_it_is_the_definition() -> None:
    x, y = sample(3, 40, 5)
    assert distance_correlation(x, y) == pytest.approx(by_definition(x, y, pairwise_distances), abs=1e-9)


def test_it_is_one_for_the_same_and_for_what_keeps_distances() -> None:
    x = np.random.default_rng(0).normal(size=(80, 4, 3))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    moved = 3 * x.reshape(80, -1) @ turn + 7
    assert distance_correlation(x, x) == pytest.approx(1)
    assert distance_correlation(x, moved) == pytest.approx(1)
    assert corrected_distance_correlation(x, moved) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_squared_distances_are_linear_cka_and_not_distance_correlation(seed: Any) -> None:
    # Acceptance test 4: two public code bases call this distance correlation.
    x, y = sample(seed, 60, 6)
    squared = distance_correlation(x, y, exponent=2)
    assert squared == pytest.approx(by_definition(x, y, lambda rows: pairwise_distances(rows) ** 2), abs=1e-9)
    assert squared == pytest.approx(np.sqrt(linear_cka(x, y)), abs=1e-9)
    assert abs(distance_correlation(x, y) - squared) > 0.02


def test_squared_distances_miss_dependence_without_correlation() -> None:
    x = np.linspace(-1, 1, 201)[:, None]
    assert distance_correlation(x, x**2, exponent=2) == pytest.approx(0, abs=1e-6)
    assert distance_correlation(x, x**2) > 0.4


def test_independent_samples_are_far_from_zero_and_their_null_says_so() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(200, 3)), draw.normal(size=(200, 3))
    found = distance_correlation_test(x, y, null_orders(np.arange(200), None, 40, draw))
    assert 0.15 < found.value < 0.35  # .24 is expected at n = 200 in three dimensions
    assert abs(found.corrected) < 0.05
    assert min(found.null) < found.value < max(found.null)
    assert np.mean(found.null) == pytest.approx(found.value, abs=0.05)


def test_dependence_stands_above_its_null() -> None:
    x, y = sample(4, 150, 3)
    found = distance_correlation_test(x, y, null_orders(np.arange(150), None, 20, np.random.default_rng(0)))
    assert found.value == distance_correlation(x, y)
    assert found.value > max(found.null)


def test_what_does_not_vary_depends_on_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    constant = np.full((30, 5), 0.1)
    assert distance_correlation(x, constant) == 0
    assert corrected_distance_correlation(constant, x) == 0


@pytest.mark.parametrize(
    ("x", "y", "options", "said"),
    [
        (np.zeros((5, 2)), np.zeros((4, 2)), {}, "not 5 and 4"),
        (np.zeros((1, 2)), np.zeros((1, 2)), {}, "the same number of rows, at least 2"),
        (np.full((5, 2), np.nan), np.zeros((5, 2)), {}, "not finite"),
        (np.zeros((5, 2)), np.zeros((5, 2)), {"exponent": 3}, "exponent"),
    ],
)
def test_it_refuses(x: Any, y: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        distance_correlation(x, y, **options)


def test_the_corrected_form_needs_four_rows() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        corrected_distance_correlation(np.eye(3), np.eye(3))
