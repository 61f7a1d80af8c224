import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from adversary.attacks.activations.ladder import Ladder, LadderOptions, buckets, control_task
from adversary.attacks.activations.perceptrons import Perceptron, drawn
from adversary.attacks.harness.knowledge import Knowledge, surrogate
from adversary.attacks.harness.run import attack


def known(seen: Any, attribute: Any, groups: Any = None, inputs: Any = None) -> Knowledge:
    n = len(seen)
    inputs = np.zeros((n, 1), np.float32) if inputs is None else inputs
    zeros = np.zeros(n, np.int64)
    classes = int(attribute.max()) + 1
    return Knowledge(seen, inputs, zeros, attribute, classes, np.zeros(n, bool), 0, groups=groups)


def rung(knowledge: Any, **options: Any) -> Ladder:
    ladder = Ladder(LadderOptions(**{"epochs": 30, "selectivity": False} | options), 0)
    ladder.fit(knowledge)
    return ladder


def planted(n: Any, people: Any, width: Any, signal: Any, fingerprint: Any, seed: Any = 0) -> Any:
    """Rows of `people` who each have an attribute; rows show the attribute, and who it is, as strongly as asked."""
    rng = np.random.default_rng(seed)
    has = rng.integers(0, 2, people)
    whose = rng.integers(0, people, n)
    seen = rng.standard_normal((n, width))
    seen[:, 0] += signal * (2 * has[whose] - 1)
    seen[:, 1:] += fingerprint * rng.standard_normal((people, width - 1))[whose]
    return known(seen.astype(np.float32), has[whose], whose)


def test_the_rungs_rise() -> None:
    world = planted(120, 12, 20, 1, 0)
    weights = [
        rung(world, model=m, epochs=1).report["weights"] for m in ("logistic", "mlp-64", "mlp-300", "mlp-1000x2")
    ]
    assert weights == [21 * 2, 21 * 64 + 65 * 2, 21 * 300 + 301 * 2, 21 * 1000 + 1001 * 1000 + 1001 * 2]


def test_the_lowest_rung_is_logistic_regression() -> None:
    """Oracle: scikit-learn's."""
    world = planted(900, 300, 8, 0.6, 0)
    train = world.take(slice(600))
    ours = rung(train, model="logistic", learning_rate=0.003).guess(world.seen[600:])
    theirs = LogisticRegression().fit(train.seen, train.attribute).predict_proba(world.seen[600:])
    assert ours.shape == (300, 2) and np.abs(ours - theirs).mean() < 0.03


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_higher_rung_sees_what_no_line_separates(activation: str) -> None:
    rng = np.random.default_rng(0)
    seen = rng.standard_normal((1500, 2)).astype(np.float32)
    attribute = (seen[:, 0] * seen[:, 1] > 0).astype(np.int64)
    world = known(seen, attribute)
    auc = {}
    for model in ("logistic", "mlp-64"):
        ladder = rung(world.take(slice(1000)), model=model, activation=activation, learning_rate=0.05)
        auc[model] = roc_auc_score(attribute[1000:], ladder.guess(seen[1000:])[:, 1])
    assert auc["logistic"] < 0.6 and auc["mlp-64"] > 0.95


def test_it_stops_where_held_out_rows_do_best() -> None:
    rng = np.random.default_rng(1)
    seen = rng.standard_normal((80, 40)).astype(np.float32)
    labels, held = rng.integers(0, 2, 80), np.arange(80) >= 40
    noise = Perceptron((300,), 2, "relu", 0.0, 0).fit(seen, labels, held, 40, 5, 0.05, 8)
    longer = Perceptron((300,), 2, "relu", 0.0, 0).fit(seen, labels, np.zeros(80, bool), 40, 5, 0.05, 8)
    assert noise.epoch < 10 and longer.epoch == 40

    def loss(model: Any) -> Any:
        return -np.log(model.guess(seen)[np.arange(80), labels])[held].mean()

    assert loss(longer) < 0.1 and 0.5 < loss(noise) < 1.0


def test_rungs_of_few_pairs_are_judged_on_as_many_held_out_rows_as_the_others() -> None:
    """Oracle: scikit-learn's log loss. On a sixth of 30 rows the luckiest of several rungs would look the strongest."""
    world = planted(600, 100, 4, 1.0, 0)
    for options in ({}, {"examples": 30}):
        ladder = rung(world, model="logistic", epochs=10, **options)
        judged = world.held_out()
        if options:
            judged &= ~drawn(world, 30, 0)[0]
        assert judged.sum() > 80
        own = log_loss(world.attribute[judged], ladder.guess(world.seen[judged]))
        assert ladder.report["held_out_loss"] == pytest.approx(own, rel=1e-4)


def test_few_pairs_and_more_than_there_are() -> None:
    world = planted(400, 40, 8, 1, 0)
    ladder = rung(world, examples=100, model="logistic")
    assert ladder.report["examples"] == 100
    ahead = replace(world, seen=np.concatenate([world.seen[:100], world.seen[100:] * 0]))
    assert not np.allclose(ladder.guess(world.seen), rung(ahead, examples=100, model="logistic").guess(world.seen))
    with pytest.raises(ValueError, match=r"options\.examples: 401 is more than the 400 captured pairs; give fewer"):
        rung(world, examples=401)


def test_selectivity_tells_an_attribute_from_people() -> None:
    """Hewitt and Liang: where activations are fingerprints, the control task is learnt as well as the attribute."""
    said = rung(planted(1500, 300, 12, 1.5, 0), model="mlp-64", selectivity=True).report["measured"]
    assert said["seen-people-accuracy"] > 0.9 and said["selectivity"] > 0.25
    knows = rung(planted(1500, 30, 40, 0, 3), model="mlp-64", selectivity=True).report["measured"]
    assert knows["control-task-accuracy"] > 0.9 and abs(knows["selectivity"]) < 0.1


def test_a_control_task_is_one_label_a_person_of_the_same_frequencies() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(3000), 3) * 7
    task = control_task((np.arange(9000) % 10 == 0).astype(np.int64), people, rng)
    assert (task.reshape(3000, 3) == task[::3, None]).all()
    assert task.mean() == pytest.approx(0.1, abs=0.02)


def test_without_people_buckets_of_the_input_stand_for_them() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((500, 3, 4)).astype(np.float32)
    found = buckets(inputs, np.random.default_rng(1))
    assert found.min() >= 0 and found.max() < 64 and len(np.unique(found)) > 20
    np.testing.assert_array_equal(found[::2][:5], buckets(inputs, np.random.default_rng(1))[::2][:5])


def test_held_out_people_are_none_that_it_trains_on(tmp_path: Path) -> None:
    whose = np.repeat(np.arange(30), 10)
    arrays = {"x": np.ones((300, 2), "f4"), "y": np.zeros(300, int), "attribute:a": whose % 2, "group": whose}
    np.savez(tmp_path / "s.npz", allow_pickle=False, **arrays, augmented=np.arange(300) >= 200)
    granted = surrogate(tmp_path / "s.npz", "a", 3)
    held = granted.held_out()
    assert 20 <= held.sum() <= 40 and not held[200:].any()
    assert not set(whose[held]) & set(whose[:200][~held[:200]])
    np.savez(tmp_path / "s.npz", allow_pickle=False, **arrays | {"group": whose[:9]})
    with pytest.raises(ValueError, match=r"'group' in .* has shape"):
        surrogate(tmp_path / "s.npz", "a", 3)


def test_on_captured_bytes(config: Any, world: Any) -> None:
    options = {"model": "mlp-64", "epochs": 10}
    path, out = config(attack="ladder", target="left", options=options)
    attack(path)
    meta = json.loads((out / "meta.json").read_text())
    with np.load(out / "guesses.npz") as guesses:
        found, permuted = guesses["ladder"], guesses["control:permuted"]
    assert roc_auc_score(world.private_left, found[:, 1]) > 0.85 and permuted.shape == (5, len(found), 2)
    assert np.mean([roc_auc_score(world.private_left, one[:, 1]) for one in permuted]) < 0.7
    assert set(meta["fit"]["measured"]) == {"selectivity", "seen-people-accuracy", "control-task-accuracy"}
