"""The rebound of a record's loss, on trainings written out in the test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from adversary.attacks.harness.training import Seen, Update
from adversary.attacks.updates.member_rebound import MemberRebound
from adversary.attacks.updates.members import confidence
from tests.adversary.attacks.updates.memberships import auc, examples, federation, mean, tiny, trained
from wireleak.common.traffic import OTHERS


@pytest.fixture(autouse=True)
def networks_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(monkeypatch)


def as_participant(tmp_path: Path, **options: Any) -> Any:
    """A training as client 0 sees it; the records are its own too, so only the others' count as members."""
    known, truth = federation(tmp_path, **options)
    seen, clients = known.training, options.get("clients", 2)
    others = []
    for number in sorted({one.round for one in seen.updates}):
        ends = [one.end for one in seen.updates if one.round == number and one.sender]
        others.append(Update(OTHERS, number, seen.models[number], mean(ends)))
    known = replace(known, training=Seen(seen.models, tuple(others)), recipe=replace(known.recipe, own=0))
    with np.load(tmp_path / "records.npz") as stored:
        x, y = stored["x"], stored["y"]
    mine = examples(40, 10)[0]
    kept = ~(x[:, None] == mine[None]).all(2).any(1)
    assert kept.sum() == len(x) - 40 and clients > 1
    np.savez(tmp_path / "records.npz", x=x[kept], y=y[kept])
    return known, truth[kept]


@pytest.mark.parametrize("clients", [2, 3])
@pytest.mark.parametrize("imitations", [0, 2])
def test_what_the_others_learnt_by_heart_is_recognised(tmp_path: Path, clients: int, imitations: int) -> None:
    known, truth = as_participant(tmp_path, epochs=12, rounds=3, clients=clients)
    assert auc(MemberRebound, known, truth, imitations=imitations) > 0.58


def test_the_score_is_the_gain_in_log_odds_over_the_rounds(tmp_path: Path) -> None:
    known, truth = as_participant(tmp_path, epochs=4, rounds=3)
    with np.load(tmp_path / "records.npz") as stored:
        x, y = stored["x"], stored["y"]
    blocks = known.network().blocks
    gains = [np.subtract(*confidence(blocks, [one.end, one.start], x, y)) for one in known.training.updates]
    attack = MemberRebound(MemberRebound.options(imitations=0), 0)
    attack.fit(known)
    np.testing.assert_allclose(attack._score, np.mean(gains, 0))
    assert auc(MemberRebound, known, truth, imitations=0) == pytest.approx(roc_auc_score(truth, np.mean(gains, 0)))


def test_nothing_is_left_where_the_attackers_examples_are_the_others_own(tmp_path: Path) -> None:
    """Then the imitations learn the same records by heart: what they win back is subtracted in full."""
    known, truth = as_participant(tmp_path, epochs=12, rounds=3)
    x, y = examples(40, 11)
    same = replace(known, inputs=x, labels=y, augmented=np.zeros(40, bool))
    assert auc(MemberRebound, same, truth, imitations=0) == auc(MemberRebound, known, truth, imitations=0) > 0.62
    assert auc(MemberRebound, same, truth, imitations=4) == pytest.approx(0.5, abs=0.1)
    assert auc(MemberRebound, known, truth, imitations=4) > 0.65


def test_a_model_that_was_spoilt_on_the_records_before_gives_members_away(tmp_path: Path) -> None:
    """Each round begins with a model that learnt wrong labels of all records; the others learn their own right ones."""
    known, truth = as_participant(tmp_path, epochs=6, rounds=3)
    with np.load(tmp_path / "records.npz") as stored:
        x, y = stored["x"], stored["y"]
    blocks, theirs = known.network().blocks, examples(40, 11)
    others = []
    for one in known.training.updates:
        spoilt = trained(blocks, one.start, x, 1 - y, 12, 900 + one.round)
        ends = trained(blocks, spoilt, *theirs, 6, one.round)
        others.append(Update(OTHERS, one.round, spoilt, ends))
    active = replace(known, training=Seen(known.training.models, tuple(others)))
    passive = auc(MemberRebound, known, truth)
    assert auc(MemberRebound, active, truth) > passive + 0.05


def test_a_training_of_which_nothing_was_seen_is_refused(tmp_path: Path) -> None:
    known, _ = as_participant(tmp_path, epochs=1, rounds=1)
    nothing = replace(known, training=Seen(known.training.models, ()))
    with pytest.raises(ValueError, match=r"^captures: no round was seen with both its models"):
        MemberRebound(MemberRebound.options(), 0).fit(nothing)


def test_too_few_examples_for_an_imitation_are_refused(tmp_path: Path) -> None:
    known, _ = as_participant(tmp_path, epochs=1, rounds=1, clients=3)
    with pytest.raises(ValueError, match=r"^granted.surrogate: 1 examples are too few for 2 clients"):
        MemberRebound(MemberRebound.options(), 0).fit(known.take(slice(1)))
