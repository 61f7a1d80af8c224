"""Membership attacks that compare with shadows, references or other clients: their formulas, and what they find."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist, fmean, pstdev
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn

from adversary.attacks.harness.training import Seen, Update
from adversary.attacks.updates.member_fedmia import MemberFedmia, below_others, cosines
from adversary.attacks.updates.member_lira import MemberLira, ratio
from adversary.attacks.updates.member_rmia import MemberRmia, likelihood, share_below
from adversary.attacks.updates.members import records
from adversary.attacks.updates.shadows import Shadows
from tests.adversary.attacks.updates.memberships import examples, federation, tiny

Case = tuple[Any, npt.NDArray[np.int64]]


@pytest.fixture(autouse=True)
def networks_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(monkeypatch)


@pytest.fixture
def learnt(tmp_path: Path) -> Case:
    """Four clients learn 16 records each by heart; each record is asked about one client."""
    case: Case = federation(tmp_path, epochs=12, rounds=2, clients=4, shard=16, learning_rate=0.03, named=True)
    return case


def guessed(attack: Any, case: Case, **options: Any) -> npt.NDArray[np.float64]:
    known, truth = case
    one = attack(attack.options(**options), 0)
    one.fit(known)
    guess = one.guess(len(truth))
    assert guess.shape == (len(truth), 2) and np.allclose(guess.sum(1), 1, atol=1e-6)
    return np.asarray(guess[:, 1], np.float64)


@pytest.mark.parametrize(
    ("attack", "options"),
    [
        (MemberLira, {"shadows": 3}),
        (MemberLira, {"form": "online", "shadows": 6}),
        (MemberRmia, {"references": 2, "gamma": 1}),
        (MemberFedmia, {"measure": "loss"}),
        (MemberFedmia, {"measure": "cosine"}),
    ],
)
def test_members_rank_high_and_strangers_rank_at_random(attack: Any, options: dict[str, Any], learnt: Case) -> None:
    member = guessed(attack, learnt, **options)
    truth = learnt[1]
    fpr, tpr, _ = roc_curve(truth, member)
    assert roc_auc_score(truth, member) > 0.65
    assert attack is MemberRmia or tpr[fpr <= 0.1].max() > 0.25
    strangers = member[truth == 0]
    assert abs(roc_auc_score(np.arange(len(strangers)) % 2, strangers) - 0.5) < 0.2


def test_the_likelihood_ratio_is_that_of_two_normal_distributions() -> None:
    draw = np.random.default_rng(0)
    target, shadows = draw.normal(size=9), draw.normal(size=(8, 9))
    inside = np.zeros((8, 9), bool)
    for record in range(9):
        inside[draw.permutation(8)[:4], record] = True
    held = [shadows[inside[:, record], record].tolist() for record in range(9)]
    free = [shadows[~inside[:, record], record].tolist() for record in range(9)]

    def log_ratio(record: int, spread_in: float, spread_out: float) -> float:
        two = NormalDist(fmean(held[record]), spread_in), NormalDist(fmean(free[record]), spread_out)
        return math.log(two[0].pdf(target[record])) - math.log(two[1].pdf(target[record]))

    own = [log_ratio(record, pstdev(held[record]), pstdev(free[record])) for record in range(9)]
    assert np.allclose(ratio(target, shadows, inside, "record"), own, rtol=1e-3)
    spreads = [math.sqrt(sum(4 * pstdev(one) ** 2 for one in part) / (9 * 3)) for part in (held, free)]
    pooled = [log_ratio(record, *spreads) for record in range(9)]
    assert np.allclose(ratio(target, shadows, inside, "fixed"), pooled, rtol=1e-3)
    offline = ratio(target, shadows, np.zeros((8, 9), bool), "record")
    below = [NormalDist(fmean(row), pstdev(row)).cdf(value) for row, value in zip(shadows.T, target, strict=True)]
    assert np.argsort(offline).tolist() == np.argsort(below).tolist()


def test_rmia_counts_the_population_that_a_record_exceeds() -> None:
    draw = np.random.default_rng(1)
    x, z = draw.random(7), draw.random(40)
    references_x, references_z = draw.random((3, 7)), draw.random((3, 40))
    for gamma, a in ((1.0, 0.0), (2.0, 0.3), (1.5, 1.0)):
        wanted = []
        for place in range(7):
            of_x = x[place] / (0.5 * ((1 + a) * fmean(references_x[:, place]) + (1 - a)))
            hits = [
                of_x / (z[other] / (0.5 * ((1 + a) * fmean(references_z[:, other]) + (1 - a)))) >= gamma
                for other in range(40)
            ]
            wanted.append(fmean(hits))
        found = share_below(likelihood(x, references_x, a), likelihood(z, references_z, a), gamma)
        assert np.allclose(found, wanted)


def test_fedmia_measures_a_client_against_all_others() -> None:
    measured = np.random.default_rng(2).normal(size=(5, 6))
    found = below_others(measured)
    for client in range(5):
        for record in range(6):
            rest = [measured[other, record] for other in range(5) if other != client]
            wanted = NormalDist(fmean(rest), pstdev(rest)).cdf(measured[client, record])
            assert found[client, record] == pytest.approx(wanted, abs=1e-4)


def test_fedmias_cosine_is_that_of_torchs_gradient() -> None:
    torch.manual_seed(0)
    blocks = nn.Sequential(nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 3))
    start = {name: value.detach().numpy().copy() for name, value in blocks.state_dict().items()}
    x, y = examples(5, 3)
    ends = [
        {name: value + np.float32(0.1 * number) * value**2 for name, value in start.items()} for number in (1, 2, 3)
    ]
    found = cosines(blocks, [Update(number, 1, start, end) for number, end in enumerate(ends)], x, y)
    for record in range(5):
        blocks.zero_grad()
        nn.functional.cross_entropy(blocks(torch.from_numpy(x[[record]])), torch.from_numpy(y[[record]])).backward()
        gradient = np.concatenate(
            [weight.grad.numpy().ravel() for weight in blocks.parameters() if weight.grad is not None]
        )
        for number, end in enumerate(ends):
            change = np.concatenate([(end[name] - start[name]).ravel() for name, _ in blocks.named_parameters()])
            wanted = -gradient @ change / np.linalg.norm(gradient) / np.linalg.norm(change)
            assert found[number, record] == pytest.approx(wanted, abs=1e-4)


def test_an_online_shadow_holds_the_records_as_examples_of_the_asked_client(learnt: Case) -> None:
    known, _ = learnt
    asked, shadows = records(known), Shadows(known, 0)
    inside = np.random.default_rng(0).random(len(asked.x)) < 0.3
    inputs, labels = shadows.mixed(asked, inside, np.random.default_rng(1))
    assert len(inputs) == len(labels) == shadows.size == 64
    for client, part in enumerate(np.split(inputs, 4)):
        rows = {row.tobytes() for row in part}
        assert asked.clients is not None
        of_client = asked.clients == client
        assert {row.tobytes() for row in asked.x[inside & of_client]} <= rows
        assert not {row.tobytes() for row in asked.x[~(inside & of_client)]} & rows


def test_each_record_is_in_equally_many_shadows(learnt: Case) -> None:
    known, truth = learnt
    one = MemberLira(MemberLira.options(form="online", shadows=4), 0)
    one.fit(known)
    assert one._inside.sum(0).tolist() == [2] * len(truth)
    with pytest.raises(ValueError, match=r"options.shadows: 3 trainings with 16 of 32 records .* take 4 or more"):
        MemberLira(MemberLira.options(form="online", shadows=3), 0).fit(known)


def test_without_a_named_client_the_best_model_counts(learnt: Case) -> None:
    known, _ = learnt
    named = records(known)
    values = np.random.default_rng(0).normal(size=(3, len(named.x)))
    assert named.clients is not None
    own = [values[[0, 1, 2].index(client), row] for row, client in enumerate(named.clients) if client != 3]
    found = named.of(values, (0, 1, 2))
    assert found[named.clients != 3].tolist() == own
    # The model of client 3 was not seen.
    assert (found[named.clients == 3] == values.max(0)[named.clients == 3]).all()
    assert (replace(named, clients=None).of(values, (0, 1, 2)) == values.max(0)).all()


def test_fedmia_of_two_clients_is_one_line(learnt: Case) -> None:
    known, _ = learnt
    two = tuple(one for one in known.training.updates if one.sender < 2)
    with pytest.raises(ValueError, match="compares the updates of 3 or more clients in a round"):
        MemberFedmia(MemberFedmia.options(), 0).fit(replace(known, training=Seen(known.training.models, two)))
