"""An audit's canaries among the records of membership: scored apart, with the epsilon that guesses about them prove."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from wireleak.common.measures.bounds.auditing import from_canaries
from wireleak.common.measures.scores.canary_epsilon import DELTA, canary_scores, proved
from wireleak.common.targets.member import PLANTED, Member
from wireleak.common.targets.target import OWN

RNG = np.random.default_rng(0)


def guess(score: np.ndarray) -> np.ndarray:
    return np.stack([1 - score, score], 1).astype(np.float32)


def test_canaries_and_ordinary_records_are_scored_apart() -> None:
    truth = RNG.permutation(np.repeat([0, 1, PLANTED, PLANTED + 1], 120))
    # A guess that is right about canaries and wrong about the others.
    score = 0.5 + 0.3 * np.where(truth >= PLANTED, 1, -1) * (2 * (truth % 2) - 1) + 0.4 * RNG.random(len(truth)) - 0.2
    several = np.stack([guess(RNG.random(len(truth))) for _ in range(3)])
    rows = Member().score(
        {OWN: guess(score), "permuted": several, "majority": guess(np.full(len(truth), 0.5))}, truth, 0
    )
    for target, among in (("member", truth < PLANTED), ("member-canary", truth >= PLANTED)):
        own = {one.score.measure: one.score for one in rows if (one.target, one.guess) == (target, OWN)}
        assert own["auc"].value == pytest.approx(roc_auc_score(truth[among] % 2, score[among]), abs=1e-6)
        assert own["auc"].n == among.sum() == 240
        assert ("canary-epsilon" in own) == (target == "member-canary")
        names = {one.guess for one in rows if one.target == target}
        assert names == {OWN, "permuted", "majority"}
    proof = next(one.score for one in rows if one.score.measure == "canary-epsilon" and one.guess == OWN)
    assert proof.value == from_canaries(120, 120, 240, DELTA)


def test_without_canaries_there_is_one_target_as_before() -> None:
    truth = RNG.integers(0, 2, 200)
    rows = Member().score({OWN: guess(RNG.random(200))}, truth, 0)
    assert {one.target for one in rows} == {"member"} and "canary-epsilon" not in {one.score.measure for one in rows}


def test_the_quarters_at_both_ends_are_guessed_and_the_rest_is_not() -> None:
    truth = np.array([0, 1, 0, 1] * 25)
    score = np.linspace(0, 1, 100)
    truth[:25], truth[75:] = 0, 1
    truth[25:75] = truth[25:75][::-1]
    assert proved(score, truth).value == from_canaries(50, 50, 100, DELTA)
    truth[0], truth[99] = 1, 0
    assert proved(score, truth).value == from_canaries(48, 50, 100, DELTA)
    assert proved(-score, truth).value == 0
    assert math.isnan(proved(score[:3], truth[:3]).value)


def test_an_attack_that_sees_nothing_proves_nothing() -> None:
    truth = RNG.integers(0, 2, (300, 200))
    bounds = [proved(RNG.random(200), each).value for each in truth]
    assert np.mean(np.array(bounds) > 0) <= 0.08  # 5 % are expected


def test_a_mechanism_that_is_epsilon_private_is_seldom_refuted() -> None:
    """Oracle: canaries named by randomised response, which attains epsilon."""
    epsilon, m = 1.0, 400
    bounds = []
    for _ in range(200):
        truth = RNG.integers(0, 2, m)
        told = np.where(RNG.random(m) < 1 / (1 + math.exp(-epsilon)), truth, 1 - truth)
        bounds.append({one.measure: one for one in canary_scores(guess(told + RNG.random(m) / 9), truth, RNG)})
    lower = np.array([one["canary-epsilon"].value for one in bounds])
    assert (lower <= epsilon).mean() >= 0.93 and lower.mean() > 0.6 * epsilon
