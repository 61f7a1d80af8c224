"""Membership attacks on trainings that remember, that do not, and on records that say nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import cross_entropy

from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.training import Recipe, Seen, Update
from adversary.attacks.updates.member_embedding import MemberEmbedding
from adversary.attacks.updates.member_loss import MemberLoss
from adversary.attacks.updates.member_shadow import MemberShadow
from adversary.attacks.updates.members import Records, confidence, probabilities
from adversary.attacks.updates.shadows import federated as train_federated
from tests.adversary.attacks.updates.memberships import (
    LENGTH,
    VOCABULARY,
    auc,
    examples,
    federation,
    mean,
    released,
    tiny,
    trained,
)
from wireleak.common.models import ModelConfig
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan
from wireleak.common.traffic import OTHERS


@pytest.fixture(autouse=True)
def networks_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(monkeypatch)


def test_what_was_learnt_by_heart_is_recognised(tmp_path: Path) -> None:
    known, truth = federation(tmp_path, epochs=12, rounds=2)
    assert auc(MemberLoss, known, truth) > 0.62 and auc(MemberShadow, known, truth, shadows=2) > 0.62
    assert auc(MemberLoss, released(known), truth) > 0.6
    assert auc(MemberShadow, released(known), truth, shadows=2) > 0.58


def test_calibration_takes_away_how_hard_a_record_is() -> None:
    """Members gain 2 where records differ by 6 from one another: by loss nearly chance, by shadows nearly certainty."""
    draw = np.random.default_rng(1)
    truth = np.arange(400) % 2
    hard = draw.normal(0, 6, 400)
    one = MemberShadow(MemberShadow.options(), 0)
    zeros = np.zeros(400, np.float32)
    one._records, one._senders = Records(zeros, zeros.astype(np.int64), None, None), (0,)
    one._target = (hard + 2 * truth + draw.normal(0, 0.5, 400))[None]
    one._outside = hard + draw.normal(0, 0.5, (8, 400))
    assert roc_auc_score(truth, one._target[0]) < 0.65
    assert roc_auc_score(truth, one.guess(400)[:, 1]) > 0.95


def test_a_shadow_is_trained_as_the_recipe_says() -> None:
    """Against a federation written out here: the same starts, orders and means."""
    blocks = ModelConfig(name="tiny-mlp", input_shape=(12,), classes=2, cut=1).network().blocks
    now = {name: value.numpy().copy() for name, value in blocks.state_dict().items()}
    shards, recipe = (
        [examples(24, 1), examples(24, 2)],
        Recipe(ClientPlan(rounds=2, epochs=3, batch=8, learning_rate=0.01, optimiser="sgd"), 2, 24),
    )
    final, ends = train_federated(blocks, now, shards, recipe, (5, 6))
    for number in (1, 2):
        wanted = []
        for place, shard in enumerate(shards):
            blocks.load_state_dict({name: torch.from_numpy(value) for name, value in now.items()})
            train_whole(
                blocks,
                *shard,
                Training(ClientPlan(epochs=3, batch=8, learning_rate=0.01, optimiser="sgd"), (5, 6, number, place)),
            )
            wanted.append({name: value.numpy().copy() for name, value in blocks.state_dict().items()})
        now = mean(wanted)
    assert all(np.array_equal(ends[1][name], wanted[1][name]) for name in now)
    assert all(np.allclose(final[name], now[name], atol=1e-6) for name in now)


def test_an_untrained_model_knows_nobody(tmp_path: Path) -> None:
    known, truth = federation(tmp_path, epochs=1, rounds=1)
    first = replace(known, training=Seen({1: known.training.models[1]}, ()))
    assert abs(auc(MemberLoss, first, truth) - 0.5) < 0.12


def test_a_participant_sees_the_others_mean(tmp_path: Path) -> None:
    known, truth = federation(tmp_path, epochs=8, clients=3, shard=30, rounds=2)
    ends = [one for one in known.training.updates if one.round == 2 and one.sender != 0]
    others = Update(OTHERS, 2, ends[0].start, mean([one.end for one in ends]))
    as_client = replace(known, training=Seen(known.training.models, (others,)), recipe=replace(known.recipe, own=0))
    one = MemberShadow(MemberShadow.options(shadows=3), 0)
    one.fit(as_client)
    assert one._target.shape == (1, 180) and one._outside.shape == (3, 180)
    assert auc(MemberLoss, as_client, truth) > 0.55


def test_confidence_is_the_log_odds_of_torchs_cross_entropy() -> None:
    blocks = nn.Sequential(nn.Linear(12, 3))
    x, y = examples(20, 0)
    state = {name: value.detach().numpy() for name, value in blocks.state_dict().items()}
    loss = cross_entropy(blocks(torch.from_numpy(x)), torch.from_numpy(y), reduction="none").detach().numpy()
    odds = confidence(blocks, [state], x, y)[0]
    assert np.allclose(odds, np.log(np.exp(-loss) / (1 - np.exp(-loss))), atol=1e-4)


def test_probabilities_keep_the_order_even_far_out_and_people_share_one_score() -> None:
    score = np.array([-1e3, -2.0, 0.0, 0.1, 0.2, 50.0, 51.0, 900.0])
    assert (np.diff(probabilities(score)[:, 1]) > 0).all()
    people = np.array([7, 7, 7, 7, 2, 2, 2, 2])
    shared = probabilities(score, people)[:, 1]
    assert len(set(shared[:4])) == 1 and len(set(shared[4:])) == 1 and shared[0] < shared[4]


def test_asking_for_people_who_are_not_named_is_one_line(tmp_path: Path) -> None:
    known, _ = federation(tmp_path, epochs=1, rounds=1)
    with pytest.raises(ValueError, match=r"options.unit: the records name no people"):
        MemberLoss(MemberLoss.options(unit="group"), 0).fit(known)
    with pytest.raises(ValueError, match=r"granted.files.records: is missing; give an .npz file"):
        MemberLoss(MemberLoss.options(), 0).fit(replace(known, files={}))


def texts(n: Any, seed: Any) -> Any:
    return np.random.default_rng(seed).integers(0, VOCABULARY, (n, LENGTH)).astype(np.float32)


def words(x: Any, batches: Any, optimiser: Any, tmp_path: Path) -> Knowledge:
    """One client trains on `batches` of texts, one a round."""
    model = ModelConfig(name="tiny-bag", input_shape=(LENGTH,), classes=2, cut=1)
    blocks = model.network().blocks
    now = {name: value.numpy().copy() for name, value in blocks.state_dict().items()}
    models, updates = {1: now}, []
    for number, batch in enumerate(batches, 1):
        end = trained(blocks, now, batch, (batch[:, 0] % 2).astype(np.int64), 2, number, optimiser)
        updates.append(Update(0, number, now, end))
        now = models[number + 1] = end
    np.savez(tmp_path / "records.npz", x=x, y=np.zeros(len(x), np.int64))
    zero = np.zeros(0, np.float32)
    known = Knowledge(zero, x[:0], np.zeros(0, np.int64), None, 0, np.zeros(0, bool), 0, model=model)
    recipe = Recipe(ClientPlan(rounds=len(batches), epochs=2, batch=8, learning_rate=0.01, optimiser=optimiser), 1, 8)
    seen = Seen(models, tuple(updates))
    return replace(known, files={"records": tmp_path / "records.npz"}, training=seen, recipe=recipe)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_rows_that_moved_are_the_words_of_the_batch(tmp_path: Path, optimiser: str) -> None:
    inside, outside = texts(16, 1), texts(300, 2)
    known = words(np.concatenate([inside, outside]), [inside[:8], inside[8:]], optimiser, tmp_path)
    one = MemberEmbedding(MemberEmbedding.options(), 0)
    one.fit(known)
    member = one.guess(316)[:, 1]
    sets = [set(batch.astype(int).ravel()) - {0} for batch in (inside[:8], inside[8:])]
    covered = [any(set(row.astype(int)) - {0} <= held for held in sets) for row in np.concatenate([inside, outside])]
    assert [value > 0.5 for value in member] == covered
    assert all(covered[:16]) and sum(covered[16:]) < 60
    assert one.report["measured"]["words-moved"] == np.mean([len(held) for held in sets])


def test_rounding_of_the_others_mean_is_no_movement(tmp_path: Path) -> None:
    inside = texts(8, 3)
    known = words(np.concatenate([inside, texts(200, 4)]), [inside], "sgd", tmp_path)
    assert known.training is not None and known.recipe is not None
    (update,) = known.training.updates
    noise = np.random.default_rng(5)
    end = {
        name: (value * (1 + noise.uniform(-1e-7, 1e-7, value.shape))).astype("f4") for name, value in update.end.items()
    }
    others = replace(update, sender=OTHERS, end=end)
    seen = Seen(known.training.models, (others,))
    one = MemberEmbedding(MemberEmbedding.options(), 0)
    one.fit(replace(known, training=seen, recipe=replace(known.recipe, participants=3)))
    assert one.report["measured"]["words-moved"] == len(set(inside.astype(int).ravel()) - {0})


def test_noise_on_every_row_leaves_chance(tmp_path: Path) -> None:
    inside, outside = texts(8, 6), texts(100, 7)
    known = words(np.concatenate([inside, outside]), [inside], "sgd", tmp_path)
    assert known.training is not None
    (update,) = known.training.updates
    end = {name: value + np.float32(0.01) for name, value in update.end.items()}
    one = MemberEmbedding(MemberEmbedding.options(), 0)
    one.fit(replace(known, training=Seen(known.training.models, (replace(update, end=end),))))
    assert (one.guess(108)[:, 1] > 0.5).all()


def test_an_update_of_other_shapes_is_passed_over(tmp_path: Path) -> None:
    known, _ = federation(tmp_path, epochs=1, rounds=1)
    broken = replace(known.training.updates[0], end={"0.weight": np.zeros((2, 2), np.float32)})
    seen = Seen(known.training.models, (broken, known.training.updates[1]))
    one = MemberLoss(MemberLoss.options(), 0)
    one.fit(replace(known, training=seen))
    assert one.report["models"] == 1
