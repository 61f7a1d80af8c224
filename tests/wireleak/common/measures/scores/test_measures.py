"""Each measure against a library that somebody else wrote, its interval's coverage, and what it refuses."""

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skimage.metrics
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from scipy.stats import t as student

from wireleak.common import measures
from wireleak.common.measures.scores.measure import MEASURES
from wireleak.common.measures.scores.reid import Reidentification
from wireleak.common.measures.statistics.score import Score


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


Floats = npt.NDArray[np.float32]


def images(n: int = 40, channels: int = 1, noise: float = 0.2, side: int = 28) -> tuple[Floats, Floats]:
    draw = np.random.default_rng(1)
    truth = draw.random((n, channels, side, side)).astype(np.float32)
    guess = np.clip(truth + noise * draw.normal(size=truth.shape), 0, 1).astype(np.float32)
    return guess, truth


def one(guess: Any, truth: Any, name: Any) -> Score:
    kind = measures.get(name).applies_to
    scorer = measures.score_reconstruction if kind == "reconstruction" else measures.score_attribute
    return scorer(guess, truth, rng(), [name])[0]


def attribute_guess(classes: Any = 4, n: Any = 300, pull: Any = 0.3, seed: Any = 2) -> Any:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, n)
    guess = np.eye(classes)[labels] * pull + draw.random((n, classes))
    return (guess / guess.sum(1, keepdims=True)).astype(np.float32), labels


# ---------------------------------------------------------------- reconstruction


def test_mse_is_scikit_learns() -> None:
    guess, truth = images()
    score = one(guess, truth, "mse")
    assert score.value == pytest.approx(
        sklearn.metrics.mean_squared_error(truth.reshape(40, -1), guess.reshape(40, -1)), rel=1e-5
    )
    assert score.low < score.value < score.high and score.n == 40 and score.chance is None


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_and_ssim_are_scikit_images(channels: int) -> None:
    guess, truth = images(channels=channels)
    psnr = [skimage.metrics.peak_signal_noise_ratio(t, g, data_range=1) for g, t in zip(guess, truth, strict=True)]
    ssim = [
        skimage.metrics.structural_similarity(
            t, g, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
        )
        for g, t in zip(guess, truth, strict=True)
    ]
    assert one(guess, truth, "psnr").value == pytest.approx(np.mean(psnr), rel=1e-5)
    assert one(guess, truth, "ssim").value == pytest.approx(np.mean(ssim), abs=1e-5)


def test_an_exact_copy() -> None:
    _, truth = images()
    found = {score.measure: score.value for score in measures.score_reconstruction(truth, truth, rng())}
    assert found == pytest.approx({"mse": 0, "psnr": 100, "reid": 1, "ssim": 1}, abs=1e-6)


def test_images_get_all_measures_and_sensors_those_that_fit() -> None:
    guess, truth = images()
    assert [s.measure for s in measures.score_reconstruction(guess, truth, rng())] == ["mse", "psnr", "reid", "ssim"]
    sensor = np.random.default_rng(0).normal(size=(20, 6, 128)).astype(np.float32)
    assert [s.measure for s in measures.score_reconstruction(sensor, sensor, rng())] == ["mse", "reid"]
    tiny = images(side=8)
    assert [s.measure for s in measures.score_reconstruction(*tiny, rng())] == ["mse", "psnr", "reid"]


def test_reidentification_is_a_nearest_neighbour_search() -> None:
    guess, truth = images(n=60, noise=3.0)
    nearest = [np.argmin([((g - t) ** 2).mean() for t in truth]) == i for i, g in enumerate(guess)]
    score = one(guess, truth, "reid")
    assert 0.1 < np.mean(nearest) < 1 and score.value == pytest.approx(np.mean(nearest))
    assert score.chance == pytest.approx(1 / 60)


def test_reidentification_without_information_is_chance() -> None:
    _, truth = images(n=200)
    mean = np.broadcast_to(truth.mean(axis=0), truth.shape)
    assert one(mean, truth, "reid").value == pytest.approx(1 / 200)
    shuffled = truth[np.roll(np.arange(200), 1)]
    assert one(shuffled, truth, "reid").value == 0


def test_reidentification_among_few_candidates_and_identical_originals() -> None:
    guess, truth = images(n=101, noise=3.0)
    few = Reidentification(candidates=10)
    score = few(guess, truth, rng())
    assert score.chance == pytest.approx(11 / 101)  # eleven blocks of 9 or 10
    assert score.value > one(guess, truth, "reid").value
    assert few(guess, truth, rng()) == few(guess, truth, rng())
    twins = np.repeat(truth[:10], 2, axis=0)
    assert one(twins, twins, "reid").value == pytest.approx(0.5)


# ---------------------------------------------------------------- attributes


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 5), n=st.integers(30, 120), steps=st.sampled_from([2, 5, 1000]), seed=st.integers(0, 10**6)
)
def test_attribute_measures_are_scikit_learns(classes: Any, n: Any, steps: Any, seed: Any) -> None:
    guess, labels = attribute_guess(classes, n, seed=seed)
    labels[:classes] = np.arange(classes)
    guess = np.round(guess * steps) / steps + 1e-9  # ties, too
    total = guess / guess.sum(axis=1, keepdims=True) if classes > 2 else guess
    if classes == 2:
        auc = sklearn.metrics.roc_auc_score(labels, total[:, 1])
    else:
        auc = sklearn.metrics.roc_auc_score(labels, total, multi_class="ovr", average="macro")
    assert one(total, labels, "auc").value == pytest.approx(auc, abs=1e-9)
    hard = total.argmax(axis=1)
    assert one(total, labels, "accuracy").value == pytest.approx(sklearn.metrics.accuracy_score(labels, hard))
    assert one(total, labels, "balanced-accuracy").value == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(labels, hard), abs=1e-6
    )


def test_attribute_chances() -> None:
    guess, labels = attribute_guess(4)
    found = {score.measure: score.chance for score in measures.score_attribute(guess, labels, rng())}
    assert found["auc"] == 0.5 and found["balanced-accuracy"] == 0.25
    assert found["accuracy"] == measures.majority(labels)


def test_the_auc_of_one_class_is_undefined() -> None:
    guess, _ = attribute_guess(2, 20)
    assert np.isnan(one(guess, np.zeros(20, np.int64), "auc").value)
    assert one(guess, np.zeros(20, np.int64), "balanced-accuracy").n == 20


def test_the_aucs_resamples_are_those_of_scikit_learn() -> None:
    """The weighted statistic equals scikit-learn's with sample weights, hence each resample's AUC."""
    from wireleak.common.measures.scores.auc import _weighted_auc

    guess, labels = attribute_guess(2, 200, pull=0.2)
    scores = np.round(guess[:, 1], 1)
    weights = np.random.default_rng(0).integers(0, 4, (20, 200)).astype(np.float32)
    ours = _weighted_auc(scores, labels == 1)(weights)
    theirs = [sklearn.metrics.roc_auc_score(labels, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


# ---------------------------------------------------------------- intervals


def test_the_bootstrap_interval_is_scipys() -> None:
    guess, truth = images(n=200, noise=0.4)
    each = ((guess - truth) ** 2).mean(axis=(1, 2, 3))
    theirs = bootstrap((each,), np.mean, n_resamples=5000, method="percentile", rng=0).confidence_interval
    ours = one(guess, truth, "mse")
    width = float(theirs.high - theirs.low)
    assert ours.low == pytest.approx(theirs.low, abs=0.1 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.1 * width)


@pytest.mark.parametrize("name", ["auc", "accuracy", "balanced-accuracy"])
def test_intervals_cover_the_truth_about_19_times_in_20(name: str) -> None:
    big_guess, big_labels = attribute_guess(2, 200_000, pull=0.2, seed=9)
    true = one(big_guess[:20_000], big_labels[:20_000], name).value
    covered = 0
    for trial in range(100):
        chosen = slice(20_000 + trial * 300, 20_300 + trial * 300)
        score = one(big_guess[chosen], big_labels[chosen], name)
        covered += score.low <= true <= score.high
    assert 87 <= covered <= 100


def test_an_interval_is_quick() -> None:
    guess, labels = attribute_guess(2, 1000)
    start = time.process_time()
    measures.score_attribute(guess, labels, rng())
    assert time.process_time() - start < 0.9  # .3 s each


def test_scores_repeat_and_do_not_depend_on_their_neighbours() -> None:
    guess, labels = attribute_guess()
    every = {score.measure: score for score in measures.score_attribute(guess, labels, rng())}
    assert one(guess, labels, "balanced-accuracy") == every["balanced-accuracy"]
    other = measures.score_attribute(guess, labels, np.random.default_rng(1), ["auc"])[0]
    assert other.value == every["auc"].value and other.low != every["auc"].low


def test_combining_seeds_is_a_t_interval() -> None:
    values = [0.61, 0.66, 0.7]
    scores = [measures.Score("auc", v, v - 0.05, v + 0.05, 100, 0.5) for v in values]
    found = measures.combine_seeds(scores)
    low, high = student.interval(0.95, 2, np.mean(values), np.std(values, ddof=1) / np.sqrt(3))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert found.n == 300 and found.chance == 0.5 and found.measure == "auc"
    assert measures.combine_seeds(scores[:1]) == scores[0]
    with pytest.raises(ValueError, match="auc, mse are several measures"):
        measures.combine_seeds([scores[0], measures.Score("mse", 0, 0, 0, 1)])
    with pytest.raises(ValueError, match="scores: none is given"):
        measures.combine_seeds([])


# ---------------------------------------------------------------- controls


def test_majority_and_conditional_majority() -> None:
    private = np.tile([0, 0, 0, 1, 1, 2, 2, 2], 50)
    task = np.tile([0, 0, 0, 0, 1, 1, 1, 1], 50)
    assert measures.majority(private) == 0.375
    assert measures.conditional_majority(private, task) == pytest.approx((3 + 3) / 8)
    assert measures.conditional_majority(private, private) == 1
    guess = measures.conditional_probabilities(private, task, classes=3)
    np.testing.assert_allclose(guess[0], [0.75, 0.25, 0], atol=0.06)
    np.testing.assert_allclose(guess.sum(1), 1, atol=1e-6)
    assert one(guess, private, "accuracy").value == measures.conditional_majority(private, task)


def test_a_task_that_tells_nothing_gives_no_conditional_baseline() -> None:
    """Counted on the scored examples, 50 task labels of 6 examples each gave an AUC of about 0.7."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(40):
        private, task = draw.integers(0, 2, 300), draw.integers(0, 50, 300)
        guess = measures.conditional_probabilities(private, task, classes=2)
        found.append(sklearn.metrics.roc_auc_score(private, guess[:, 1]))
    # Halves that lack an example have too few of its value, which lowers the AUC a little.
    assert 0.45 < np.mean(found) < 0.51


# ---------------------------------------------------------------- mistakes


def test_an_unknown_measure_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no measure called 'lpips'; choose one of accuracy, auc, balanced-accuracy"):
        one(*images(), "lpips")
    with pytest.raises(ValueError, match="auc scores attribute, not reconstruction"):
        measures.score_reconstruction(*images(), rng(), ["auc"])


def test_guesses_that_cannot_be_scored() -> None:
    guess, truth = images()
    with pytest.raises(ValueError, match="differ in shape"):
        one(guess[:3], truth, "mse")
    guess[4, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="guess: 1 of 40 rows are not finite"):
        one(guess, truth, "psnr")
    with pytest.raises(ValueError, match="guess: it has no rows"):
        one(guess[:0], truth[:0], "mse")
    probabilities, labels = attribute_guess(2, 20)
    with pytest.raises(ValueError, match=r"must be \(n, classes\)"):
        one(probabilities, labels[:5], "auc")
    with pytest.raises(ValueError, match=r"labels outside 0\.\.1"):
        one(probabilities, labels + 1, "auc")


WORST = '''
from dataclasses import dataclass

from wireleak.common.measures import Measure, Score

@dataclass(frozen=True, kw_only=True)
class Worst(Measure):
    """Report the largest squared error."""

    name: str = "worst"
    label: str = "Largest error"
    meaning: str = "largest squared error of a value; lower is closer"
    higher_leaks: bool = False
    places: int = 2
    unit: str = "mV"
    applies_to: str = "reconstruction"

    def __call__(self, guess, truth, rng):
        return Score("worst", float(((guess - truth) ** 2).max()), 0, 1, len(guess))
'''


def test_a_measure_of_another_package_is_found_through_its_entry_point(installed: Any) -> None:
    installed(MEASURES, WORST, worst="outside:Worst")
    assert isinstance(measures.get("worst"), measures.Measure)
    assert "worst" in [s.measure for s in measures.score_reconstruction(*images(), rng())]


def test_balanced_accuracy_counts_the_classes_that_are_there() -> None:
    truth = np.array([0] * 19 + [1])
    right = np.eye(3, dtype=np.float32)[truth]
    found = one(right, truth, "balanced-accuracy")
    # Nobody has the third class, and a third of the resamples leaves the second out; what is there is always right.
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)
    assert found.chance == 0.5
