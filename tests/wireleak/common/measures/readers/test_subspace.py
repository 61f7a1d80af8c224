"""Subspace distance against scipy's principal angles, its check values, and its null."""

from typing import Any

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from wireleak.common.measures.readers.subspace import subspace_distance, subspace_shift


def rows(basis: Any, n: Any, seed: Any, noise: Any = 0.0) -> Any:
    """n rows in the span of a basis (k, d), about a mean that is not zero."""
    draw = np.random.default_rng(seed)
    return 3 + draw.normal(size=(n, len(basis))) @ basis + noise * draw.normal(size=(n, basis.shape[1]))


def spans(k: Any, width: Any, count: Any = 2, seed: Any = 0) -> Any:
    """Orthonormal bases (k, width) of unrelated subspaces."""
    draw = np.random.default_rng(seed)
    return [np.linalg.qr(draw.normal(size=(width, k)))[0].T for _ in range(count)]


@pytest.mark.parametrize("width", [12, 45, 3000])
def test_angles_are_scipys_for_narrow_and_for_wide_rows(width: int) -> None:
    one, other = spans(5, width)
    found = subspace_distance(rows(one, 60, 1), rows(other, 50, 2), dimension=5)
    expected = np.sort(subspace_angles(one.T, other.T))
    np.testing.assert_allclose(found.angles, expected, atol=1e-6)
    assert found.chordal == pytest.approx(np.sqrt((np.sin(expected) ** 2).mean()))
    assert found.geodesic == pytest.approx(np.linalg.norm(expected))
    assert found.largest == pytest.approx(expected.max())


def test_the_check_values() -> None:
    # The same five directions give .018. Unrelated ones in 45 dimensions give .943, which is sqrt(1 - 5/45).
    draws = [spans(5, 45, seed=seed) for seed in range(20)]
    same = [subspace_distance(rows(one, 200, 1, 0.04), rows(one, 200, 2, 0.04)).chordal for one, _ in draws]
    unrelated = [subspace_distance(rows(one, 200, 1), rows(other, 200, 2)).chordal for one, other in draws]
    assert np.mean(same) == pytest.approx(0.018, abs=0.01) and max(same) < 0.03
    assert np.mean(unrelated) == pytest.approx(0.943, abs=0.01)


def test_single_precision_gram_of_wide_rows_agrees_with_a_singular_value_decomposition() -> None:
    one, other = (rows(basis, 40, seed, 0.2).astype(np.float32) for seed, basis in enumerate(spans(4, 5000)))
    bases = []
    for each in (one, other):
        centred = each.astype(np.float64) - each.mean(0, dtype=np.float64)
        bases.append(np.linalg.svd(centred, full_matrices=False)[2][:4].T)
    found = subspace_distance(one, other, dimension=4)
    np.testing.assert_allclose(found.angles, np.sort(subspace_angles(*bases)), atol=1e-4)


def test_the_dimension_holds_nine_tenths_of_the_energy_and_is_capped() -> None:
    (basis,) = spans(30, 100, count=1)
    strong = basis * np.where(np.arange(30) < 3, 10.0, 0.1)[:, None]
    assert len(subspace_distance(rows(strong, 200, 1), rows(strong, 200, 2)).angles) == 3
    assert len(subspace_distance(rows(basis, 200, 1), rows(basis, 200, 2)).angles) == 20


def test_a_shift_stands_above_its_null_and_no_shift_does_not() -> None:
    one, other = spans(6, 400)
    far = subspace_shift(rows(one, 40, 1, 0.02), rows(other, 40, 2, 0.02))
    assert far.chordal > far.null + 0.3
    alike = subspace_shift(rows(one, 40, 1, 0.02), rows(one, 40, 2, 0.02))
    assert alike.chordal == pytest.approx(alike.null, abs=0.05)
    assert len(far.between) == len(far.within) == 10


def test_unequal_numbers_of_rows_make_no_distance_of_their_own() -> None:
    (basis,) = spans(15, 300, count=1)
    alike = subspace_shift(rows(basis, 20, 1, 0.3), rows(basis, 200, 2, 0.3), draws=20)
    assert alike.chordal == pytest.approx(alike.null, abs=0.04)


def test_a_layer_that_never_moves_is_at_no_distance() -> None:
    still = np.zeros((8, 30), np.float32)
    assert subspace_shift(still, still).chordal == 0
    assert subspace_distance(still, rows(spans(2, 30)[0], 8, 1)).chordal == 0


@pytest.mark.parametrize(("n", "m", "width"), [(3, 8, 30), (8, 8, 31)])
def test_too_few_rows_or_other_widths_are_named(n: int, m: int, width: int) -> None:
    with pytest.raises(ValueError, match="give four or more of each kind, all of the same width"):
        subspace_shift(np.ones((n, 30)), np.ones((m, width)))
    with pytest.raises(ValueError, match="give two or more rows on each side, all of the same width"):
        subspace_distance(np.ones((1, 30)), np.ones((m, width)))
