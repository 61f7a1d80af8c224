from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from adversary.attacks.activations import probes
from adversary.attacks.activations.probes import Probe, ProbeOptions, principal_axes
from adversary.attacks.harness.attack import PERMUTATIONS
from adversary.attacks.harness.knowledge import Knowledge

RNG = np.random.default_rng(0)


def pairs(n: Any, width: Any, classes: Any, augmented: Any = None) -> Knowledge:
    attribute = RNG.integers(0, classes, n)
    seen = RNG.standard_normal((n, width)).astype(np.float32)
    seen[:, :classes] += 2 * np.eye(classes, dtype=np.float32)[attribute]
    none = np.zeros(n, bool) if augmented is None else augmented
    return Knowledge(seen, np.zeros((n, 1), np.float32), np.zeros(n, int), attribute, classes, none, 0)


def fitted(known: Any, **options: Any) -> Probe:
    probe = Probe(ProbeOptions(**options), 0)
    probe.fit(known)
    return probe


def test_several_classes() -> None:
    known = pairs(900, 40, 4)
    probe = fitted(_take(known, slice(600)))
    assert known.attribute is not None
    guess, truth = probe.guess(known.seen[600:]), known.attribute[600:]
    assert guess.shape == (300, 4) and np.allclose(guess.sum(1), 1, atol=1e-5)
    assert roc_auc_score(truth, guess, multi_class="ovr") > 0.9
    assert len(probe.report["validation_log_loss"]) == 4


def test_what_no_line_separates_is_the_perceptrons() -> None:
    seen = RNG.standard_normal((1200, 2)).astype(np.float32)
    attribute = (seen[:, 0] * seen[:, 1] > 0).astype(int)
    known = Knowledge(seen, seen, attribute, attribute, 2, np.zeros(1200, bool), 0)
    probe = fitted(_take(known, slice(900)))
    assert probe.report["probe"] == "perceptron"
    assert roc_auc_score(attribute[900:], probe.guess(seen[900:])[:, 1]) > 0.95
    straight = fitted(_take(known, slice(900)), hidden=0).guess(seen[900:])[:, 1]
    assert roc_auc_score(attribute[900:], straight) < 0.65


def test_transformed_copies_are_left_out() -> None:
    known = pairs(300, 10, 2, augmented=np.arange(300) >= 200)
    assert known.attribute is not None
    known.attribute[200:] = 1 - known.attribute[200:]
    assert np.array_equal(fitted(known).guess(known.seen), fitted(_take(known, slice(200))).guess(known.seen))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_rows_and_one_value_still_give_probabilities(n: int) -> None:
    known = pairs(n, 3, 2)
    assert known.attribute is not None
    known.attribute[:] = 1
    np.testing.assert_array_equal(fitted(known).guess(known.seen), [[0, 1]] * n)


def test_permuted_values_give_the_chosen_probe_that_a_whole_fit_gives() -> None:
    known = pairs(300, 400, 3, augmented=np.arange(300) >= 240)
    options: dict[str, Any] = {"hidden": 0, "strengths": (0.1,)}  # nothing to choose
    again = fitted(known, **options).permuted(np.random.default_rng(4))
    whole = fitted(known.permuted(np.random.default_rng(4)), **options)
    assert np.array_equal(again.guess(known.seen), whole.guess(known.seen))
    assert fitted(known, hidden=0).permutations == PERMUTATIONS == 20


def test_twenty_permutations_have_their_mean_at_chance_and_one_does_not() -> None:
    """Of a value that one direction tells, a probe on permuted values takes that direction, this or that way round."""
    rng = np.random.default_rng(3)
    value = rng.integers(0, 2, 1000)
    seen = (value[:, None] * 4 + rng.standard_normal((1000, 1))).astype(np.float32)
    known = Knowledge(seen, seen, value, value, 2, np.zeros(1000, bool), 0)
    probe = fitted(_take(known, slice(500)), hidden=0)
    drawn = [probe.permuted(rng).guess(seen[500:]) for _ in range(PERMUTATIONS)]
    each = [roc_auc_score(value[500:], guess[:, 1]) for guess in drawn]
    assert all(abs(one - 0.5) > 0.45 for one in each)
    assert abs(np.mean(each) - 0.5) < stats.t.ppf(0.975, 19) * stats.sem(each)


def test_a_value_that_every_person_has_once_is_permuted_between_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    known = pairs(60, 3, 2)
    assert known.attribute is not None
    people = np.repeat(np.arange(12), 5)
    grouped = replace(known, attribute=people % 2, groups=people)
    values = grouped.permuted(np.random.default_rng(0)).attribute
    assert values is not None and (values != grouped.attribute).any()
    assert all(len(np.unique(values[people == one])) == 1 for one in range(12)) and values.sum() == 30
    # The probe's own permutations keep persons whole too: of its fits, none can tell a person's rows apart.
    probe = fitted(grouped, hidden=0)
    seen: list[Any] = []
    monkeypatch.setattr(probes, "_fitted", lambda make, features, labels: seen.append(labels))
    probe._null.append("logistic C=1")
    probe.permuted(np.random.default_rng(0))
    assert all(len(np.unique(seen[0][people == one])) == 1 for one in range(12))


@pytest.mark.parametrize(("n", "width"), [(50, 300), (300, 50)])
def test_axes_are_the_principal_ones(n: int, width: int) -> None:
    rows = RNG.standard_normal((n, width)) @ np.diag(RNG.uniform(0.1, 3, width))
    rows = (rows - rows.mean(0)).astype(np.float32)
    theirs = PCA(4).fit(rows).transform(rows)
    ours = (rows @ principal_axes(rows, 4))[:, ::-1]
    assert np.mean(ours**2) == pytest.approx(1, rel=1e-3)
    correlation = np.corrcoef(ours.T, theirs.T)[:4, 4:]
    np.testing.assert_allclose(np.abs(correlation), np.eye(4), atol=0.02)


def _take(known: Any, rows: Any) -> Knowledge:
    return Knowledge(
        known.seen[rows], known.inputs[rows], known.labels[rows], known.attribute[rows], known.classes,
        known.augmented[rows], 0,
    )  # fmt: skip
