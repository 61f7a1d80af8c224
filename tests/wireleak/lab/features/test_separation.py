"""The probe, the silhouettes and the map, against scikit-learn's own steps one by one and cases that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, silhouette_samples
from sklearn.model_selection import StratifiedKFold

from wireleak.lab.features.places import mapped
from wireleak.lab.features.separation import UnmeasuredError, halves, probe_auc, silhouette

N = 200


def made(weight: float = 1.0, classes: int = 2, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    values = rng.permutation(np.arange(N) % classes)
    features = rng.normal(size=(N, 12)) * np.geomspace(1, 1000, 12)
    features[:, 3] += weight * values * 8
    return features.astype(np.float32), values.astype(np.int64)


def scaled(features: Any, by: Any) -> Any:
    return (features.astype(np.float64) - by.astype(np.float64).mean(0)) / by.astype(np.float64).std(0)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_probe_is_fitted_on_one_half_and_scored_on_the_other(classes: int) -> None:
    features, values = made(classes=classes)
    fitted, scored = next(StratifiedKFold(2, shuffle=True, random_state=0).split(values, values))
    fit = LogisticRegression(max_iter=1000).fit(scaled(features[fitted], features[fitted]), values[fitted])
    chances = fit.predict_proba(scaled(features[scored], features[fitted]))
    each = [roc_auc_score(values[scored] == k, chances[:, k]) for k in range(classes)]
    expected = np.average(each, weights=np.bincount(values[scored])) if classes > 2 else each[1]
    auc, count = probe_auc(features, values)
    assert auc == pytest.approx(expected, abs=2e-3) and count == N // 2
    assert auc > 0.7


def test_without_the_property_the_probe_guesses_although_it_fits_its_own_half() -> None:
    aucs = [probe_auc(*made(0.0, seed=seed))[0] for seed in range(20)]
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.05)


def test_no_person_is_in_both_halves() -> None:
    features, values = made()
    people = np.repeat(np.arange(40), 5)
    fitted, scored = halves(values, people)
    assert not set(people[fitted]) & set(people[scored])
    assert sorted([*fitted, *scored]) == list(range(N))
    # People are recognised by a feature, and each has one value: only halves that share people let a probe use it.
    of_person = np.random.default_rng(1).permutation(np.arange(40) % 2)
    features = np.eye(40, dtype=np.float32)[people] * 3 + np.random.default_rng(2).normal(size=(N, 40)) * 0.1
    known, _ = probe_auc(features.astype(np.float32), of_person[people])
    unknown, _ = probe_auc(features.astype(np.float32), of_person[people], people)
    assert known > 0.95 and unknown < 0.75


def test_the_silhouette_is_that_of_standardised_features() -> None:
    features, values = made()
    expected = silhouette_samples(scaled(features, features), values).mean()
    assert silhouette(features, values) == pytest.approx(expected, abs=1e-9)
    assert silhouette(features, values) != pytest.approx(silhouette_samples(features, values).mean(), abs=1e-3)


def test_two_tight_groups_have_the_silhouette_of_the_closed_form() -> None:
    # Pairs at 0 and 1, and at 9 and 10: a = 1, b = 9.5 or 8.5 in any unit.
    features = np.array([[0], [1], [9], [10]], np.float32)
    expected = np.mean([1 - 1 / 9.5, 1 - 1 / 8.5])
    assert silhouette(features, np.array([0, 0, 1, 1])) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("measure", "reason"),
    [
        (lambda x, y: probe_auc(x, np.zeros(N, np.int64)), "one value of the property"),
        (lambda x, y: probe_auc(x, np.r_[1, np.zeros(N - 1, np.int64)]), "lacks a value of the property"),
        (lambda x, y: probe_auc(x, y, np.zeros(N, np.int64)), "one group"),
        (lambda x, y: probe_auc(x[:1], y[:1]), "one value"),
        (lambda x, y: probe_auc(x[:2], np.array([0, 1])), "too few|lacks"),
        (lambda x, y: silhouette(x, np.zeros(N, np.int64)), "200 examples with 1 labels"),
        (lambda x, y: silhouette(x, np.arange(N)), "200 examples with 200 labels"),
        (lambda x, y: mapped(np.ones((N, 12), np.float32)), "do not vary in two dimensions"),
        (lambda x, y: mapped(x[:, :1]), "too few for a map"),
        (lambda x, y: mapped(x[:3]), "too few for a map"),
    ],
)
def test_a_figure_that_is_not_defined_has_a_reason(measure: Any, reason: str) -> None:
    with pytest.raises(UnmeasuredError, match=reason) as raised:
        measure(*made())
    assert "\n" not in str(raised.value)


def test_collapsed_features_are_a_guess() -> None:
    features, values = np.zeros((N, 12), np.float32), made()[1]
    assert probe_auc(features, values)[0] == 0.5
    assert silhouette(features, values) == 0


def test_the_map_keeps_groups_together_and_repeats() -> None:
    rng = np.random.default_rng(0)
    group = np.arange(90) % 3
    features = (rng.normal(size=(90, 40)) + 20 * np.eye(3)[group] @ rng.normal(size=(3, 40))).astype(np.float32)
    places = mapped(features)
    assert places.shape == (90, 2) and places.min() == 0 and places.max() == 1
    assert silhouette_samples(places, group).mean() > 0.6
    assert np.array_equal(places, mapped(features))
