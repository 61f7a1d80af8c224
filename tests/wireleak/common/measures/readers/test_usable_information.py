"""V-information on distributions whose mutual information is known, its null, and what may not reach a reader."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import log_loss, roc_auc_score

from wireleak.common.measures.readers.readers import READERS, fit_reader, rotation, standardiser
from wireleak.common.measures.readers.reading import Part, split_rows
from wireleak.common.measures.readers.usable_information import project, usable_information
from wireleak.common.measures.statistics.permutation import null_orders


def two_gaussians(n: Any = 600, apart: Any = 2.0, width: Any = 8, seed: Any = 0) -> Any:
    """Labels, and features of which the first alone depends on them."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, n)
    features = draw.normal(size=(n, width))
    features[:, 0] += apart * (labels - 0.5)
    return features, labels


def mutual_information(apart: Any) -> Any:
    """I(p; z) of two equally likely unit Gaussians in bits, by quadrature: the most that any reader can use."""
    grid = np.linspace(-10, 10, 20001)
    densities = [norm.pdf(grid, side * apart / 2) for side in (-1, 1)]
    mixture = sum(densities) / 2
    return sum(np.trapezoid(d / 2 * np.log2(np.maximum(d, 1e-300) / mixture), grid) for d in densities)


@pytest.mark.parametrize("apart", [1.0, 3.0])
def test_it_is_the_mutual_information_where_a_reader_can_use_it_all(apart: float) -> None:
    features, labels = two_gaussians(2000, apart, width=3)
    found = usable_information(features, labels, permutations=0)
    assert found.bits == pytest.approx(mutual_information(apart), abs=0.05)
    assert found.entropy == pytest.approx(1, abs=0.01)
    assert found.share == pytest.approx(found.bits / found.entropy)


def test_the_best_family_is_found_where_no_line_separates() -> None:
    draw = np.random.default_rng(0)
    features = draw.uniform(-1, 1, (900, 2))
    labels = (features[:, 0] * features[:, 1] > 0).astype(np.int64)
    found = usable_information(features, labels, permutations=0)
    assert found.family != "ridge logistic"
    assert found.bits > 0.6


def test_nothing_to_read_is_about_zero_and_inside_its_null() -> None:
    features, _ = two_gaussians(240)
    labels = np.random.default_rng(9).integers(0, 3, 240)
    found = usable_information(features, labels, permutations=5)
    assert -0.2 < found.bits < 0.05
    assert len(found.null) == 5
    assert max(drawn.bits for drawn in found.null) < 0.06


def test_what_can_be_read_stands_above_its_null() -> None:
    features, labels = two_gaussians(300, apart=2.0)
    found = usable_information(features, labels, permutations=10)
    assert found.bits > 0.2 > max(drawn.bits for drawn in found.null) + 0.1
    # Each draw is of the same labels in another order.
    for drawn in found.null:
        assert (drawn.labels != labels).any()
        assert sorted(drawn.labels) == sorted(labels)
    aucs = [roc_auc_score(drawn.labels, drawn.evidence[:, 1]) for drawn in found.null]
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.04)


def test_bits_are_the_difference_of_two_held_out_cross_entropies() -> None:
    features, labels = two_gaussians(300)
    reading = usable_information(features, labels, permutations=0).reading
    without, having = (log_loss(labels, guess) / np.log(2) for guess in (reading.frequencies, reading.probabilities))
    assert reading.bits == pytest.approx(without - having)
    assert reading.probabilities.sum(axis=1) == pytest.approx(np.ones(300))
    assert reading.probabilities.min() >= 1e-4 / 1.001


def test_confident_mistakes_are_clipped() -> None:
    # Nothing is ever wrong here, so that isotonic steps reach 0 and 1: an infinite loss for the first mistake.
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 300)
    features = (labels[:, None] * 2.0 - 1) + draw.normal(0, 0.01, (300, 1))
    found = usable_information(features, labels, permutations=0)
    assert found.reading.gains.max() <= np.log2(0.9999 / 0.4)
    assert found.bits > 0.95


def test_groups_are_never_fitted_and_judged_on() -> None:
    # Each person has a mark of its own and a random label: whoever has seen the person knows the label.
    draw = np.random.default_rng(0)
    person = np.repeat(np.arange(30), 12)
    marks = draw.normal(size=(30, 20))[person] + 0.05 * draw.normal(size=(360, 20))
    labels = draw.integers(0, 2, 30)[person]
    assert usable_information(marks, labels, permutations=0).bits > 0.8
    found = usable_information(marks, labels, groups=person, permutations=4)
    assert found.bits < 0.3
    # The null moves whole persons, so it is as wide as chance among 30 persons is.
    for drawn in found.null:
        assert all(len(set(drawn.labels[person == one])) == 1 for one in range(30))


def test_the_null_shuffles_rows_where_a_label_varies_within_a_group() -> None:
    labels, groups = np.arange(40) % 2, np.repeat(np.arange(10), 4)
    orders = list(null_orders(labels, groups, 3, np.random.default_rng(0)))
    assert len(orders) == 3
    for order in orders:
        assert sorted(order) == list(range(40))


def test_a_projection_keeps_what_a_reader_needs_and_leaves_narrow_features_alone() -> None:
    features, labels = two_gaussians(400, apart=3.0, width=8)
    wide = np.tile(features, (1, 100)).astype(np.float32)
    assert project(wide, 64, np.random.default_rng(0)).shape == (400, 64)
    assert project(wide, 800, np.random.default_rng(0)) is wide
    full, equal = (usable_information(wide, labels, permutations=0, dimension=one) for one in (None, 64))
    assert equal.bits == pytest.approx(full.bits, abs=0.15)


def test_rotation_leaves_ridge_regression_as_it_was() -> None:
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(0)
    rows, labels = draw.normal(size=(60, 200)).astype(np.float32), draw.integers(0, 2, 40)
    turned = rotation(rows[:40])(rows)
    assert turned.shape == (60, 40)
    # The turned rows are scaled by one number, which the penalty takes back.
    scale = float(np.linalg.norm(turned[0]) / np.linalg.norm(rows[0]))
    options = {"tol": 1e-10, "max_iter": 5000}
    plain = LogisticRegression(C=0.1, **options).fit(rows[:40], labels).predict_proba(rows[40:])
    other = LogisticRegression(C=0.1 / scale**2, **options).fit(turned[:40], labels).predict_proba(turned[40:])
    assert other == pytest.approx(plain, abs=1e-4)


def test_constant_features_do_not_disturb() -> None:
    features, labels = two_gaussians(300, apart=3.0)
    widened = np.column_stack([features, np.full(300, 5.0)])
    assert np.isfinite(standardiser(widened[:200].astype(np.float32))(widened.astype(np.float32))).all()
    assert usable_information(widened, labels, permutations=0).bits > 0.5
    assert abs(usable_information(np.zeros((300, 4)), labels, permutations=0).bits) < 0.02


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.family)
def test_readers_know_classes_that_they_never_met(reader: Any) -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(40, 3)).astype(np.float32)
    for labels in (np.zeros(40, np.int64), np.arange(40) % 2 * 3):
        guess = fit_reader(reader, rows, labels, 5, 0)(rows)
        assert guess.shape == (40, 5)
        assert guess.sum(axis=1) == pytest.approx(np.ones(40), abs=1e-5)
        assert guess[:, [1, 2, 4]].max() == 0


def test_a_class_rarer_than_the_folds_is_judged_all_the_same() -> None:
    features, labels = two_gaussians(200)
    labels[0] = 2
    found = usable_information(features, labels, permutations=1)
    assert np.isfinite(found.bits)
    assert found.reading.probabilities.shape == (200, 3)


def test_the_reader_is_chosen_without_the_labels_on_which_it_is_judged() -> None:
    features, labels = two_gaussians(160)
    fitting, choosing, held = split_rows(labels, None, 3, 0)[0]
    part = Part(features.astype(np.float32), fitting, choosing, held, 2, 0)
    family, guess = part.choose(labels, None)
    turned = labels.copy()
    turned[held] = 1 - turned[held]
    again, same = part.choose(turned, None)
    assert again == family and np.array_equal(same, guess)
    # Labels of the rows on which it is chosen do count.
    turned[choosing] = 1 - turned[choosing]
    assert not np.array_equal(part.choose(turned, None)[1], guess)


def test_the_same_seed_gives_the_same_numbers() -> None:
    features, labels = two_gaussians(200)
    one, other = (usable_information(features, labels, permutations=2, seed=3) for _ in range(2))
    assert one.bits == other.bits
    assert [drawn.bits for drawn in one.null] == [drawn.bits for drawn in other.null]


@pytest.mark.parametrize(
    ("labels", "groups", "said"),
    [
        (np.zeros(60, np.int64), None, "every row has the same label"),
        (np.arange(50) % 2, None, "one label per row"),
        (np.arange(60) % 2, np.arange(60) % 5, "5 groups are too few"),
    ],
)
def test_it_refuses_what_cannot_be_read(labels: Any, groups: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        usable_information(np.zeros((60, 2)), labels, groups=groups)
