"""Where leakage sits: planted in one layer it is found there and not elsewhere, and a real training gives it away."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.training import Recipe, Seen, Update
from adversary.attacks.updates.layer_gradients import LayerGradients, layer_gradients
from adversary.attacks.updates.layer_profile import auc, layer_profile, reading
from adversary.attacks.updates.localise import Localise, LocaliseOptions
from wireleak.common.measures.readers.readout import components
from wireleak.common.models import ModelConfig
from wireleak.common.models.networks import register
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan
from wireleak.common.traffic import OTHERS

SHAPE, BATCH, ROUNDS, RATE = (1, 8, 8), 12, 8, 0.1


@register("localised-of-a-test")
def tiny(input_shape: Any, classes: Any) -> nn.Sequential:
    convolution = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(convolution, nn.Sequential(nn.Flatten(), nn.Linear(36, classes)))


def planted(n: Any = 144) -> LayerGradients:
    """Three layers: one turns with the property, one holds the input, one is noise."""
    draw = np.random.default_rng(0)
    values, pools, rounds = np.arange(n) % 2, np.arange(n) // 2 % 6, np.arange(n) // 12
    inputs = draw.normal(size=(n, 1, 4, 4)).astype(np.float32)
    noise = {name: draw.normal(size=(n, 40)).astype(np.float32) for name in ("property", "input", "nothing")}
    layers = {name: 0.3 * rows for name, rows in noise.items()}
    # With the property, other directions move, and one by a constant.
    strong = draw.normal(size=(n, 5)) * 2
    layers["property"][:, :5] += strong * (values == 1)[:, None]
    layers["property"][:, 5:10] += strong * (values == 0)[:, None]
    layers["property"][:, 10] += 1.5 * values
    layers["input"][:, :16] += inputs.reshape(n, 16)
    read = {name: np.abs(rows) for name, rows in layers.items()}
    return LayerGradients(layers, read, values, pools, rounds, inputs, dict.fromkeys(layers, (8, 5)))


@pytest.fixture(scope="module")
def profiles() -> Any:
    made = planted()
    basis = components(made.inputs)
    return {name: layer_profile(made, name, basis, permutations=3, seed=0) for name in made.layers}


def test_the_layer_that_carries_the_property_is_found_and_the_others_lie_within_their_null(profiles: Any) -> None:
    assert profiles["property"]["v_information"] > profiles["property"]["v_null_high"] + 0.3
    assert profiles["property"]["auc"] > 0.95
    for name in ("input", "nothing"):
        assert profiles[name]["v_information"] < profiles[name]["v_null_high"] + 0.03
        assert profiles[name]["auc"] == pytest.approx(0.5, abs=0.15)


def test_only_its_gradients_turn(profiles: Any) -> None:
    assert profiles["property"]["subspace"] > profiles["property"]["subspace_null"] + 0.2
    for name in ("input", "nothing"):
        assert profiles[name]["subspace"] == pytest.approx(profiles[name]["subspace_null"], abs=0.05)


def test_the_layer_that_holds_the_input_gives_it_back(profiles: Any) -> None:
    assert profiles["input"]["original"] > profiles["input"]["original_null"] + 0.7
    for name in ("property", "nothing"):
        assert profiles[name]["original"] < profiles[name]["original_null_high"] + 0.03


def test_a_layer_that_the_features_skip_is_no_reading() -> None:
    made = planted()
    assert (
        reading(replace(made, features=made.features | {"nothing": np.zeros((180, 0), np.float32)}), "nothing", 0)
        is None
    )


def world(clients: Any = 2, values: Any = 2) -> Knowledge:
    """A training of whose victim's rounds every other holds pictures with a bright edge, seen by client 0."""
    draw = np.random.default_rng(0)

    def pictures(value: Any, n: Any) -> Any:
        y = draw.integers(0, 2, n)
        x = 0.2 * draw.random((n, *SHAPE)).astype(np.float32)
        x[y == 1, :, 4:] += 0.5
        x[value == 1, :, :, :3] += 0.7
        return x, y

    model = ModelConfig(name="localised-of-a-test", input_shape=SHAPE, classes=2, cut=1, seed=0)
    blocks = model.network().blocks
    state = {name: value.numpy().copy() for name, value in blocks.state_dict().items()}
    models, updates = {1: state}, []
    for at in range(1, ROUNDS + 1):
        ends = []
        for client in range(clients):
            blocks.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in models[at].items()})
            x, y = pictures(np.full(BATCH, at % 2 * (client == 1)), BATCH)
            train_whole(
                blocks, x, y, Training(ClientPlan(epochs=1, batch=BATCH, learning_rate=RATE, optimiser="sgd"), (0, at))
            )
            ends.append({name: value.numpy().copy() for name, value in blocks.state_dict().items()})
        models[at + 1] = {name: np.mean([end[name] for end in ends], 0) for name in state}
        others = {name: np.mean([end[name] for end in ends[1:]], 0) for name in state}
        updates.append(Update(OTHERS, at, models[at], others))
    attribute = np.arange(180) % values
    x, y = pictures(attribute, 180)
    known = Knowledge(np.zeros(0, np.float32), x, y, attribute, values, np.zeros(180, bool), 0, model=model)
    recipe = Recipe(
        ClientPlan(rounds=ROUNDS, epochs=1, batch=BATCH, learning_rate=RATE, optimiser="sgd"), clients, BATCH, 0
    )
    return replace(known, training=Seen(models, tuple(updates)), recipe=recipe)


def rows(known: Any) -> Any:
    return known.training.updates


OPTIONS = LocaliseOptions(snapshots=4, permutations=1, probes=4, draws=4)


@pytest.fixture(scope="module")
def fitted() -> Any:
    attack, known = Localise(OPTIONS, 0), world()
    attack.fit(known)
    guess = attack.guess(rows(known))
    attack.finish()
    return attack, known, guess


def test_the_best_layer_tells_the_property_of_updates_that_were_seen(fitted: Any) -> None:
    attack, known, guess = fitted
    assert guess.shape == (ROUNDS, 2) and guess.dtype == np.float32
    assert guess.sum(1) == pytest.approx(np.ones(ROUNDS), abs=1e-5)
    truth = [number % 2 for _, number in known.training.units]
    assert roc_auc_score(truth, guess[:, 1]) == 1
    best = max(attack.report["bits"], key=attack.report["bits"].get)
    assert attack.report["layer"] == best.removesuffix(".weight")


def test_every_layer_has_its_figures(fitted: Any) -> None:
    attack, _, _ = fitted
    profile = attack.report["profile"]
    shared = [(one["layer"], one["index"], one["kind"], one["parameters"]) for one in profile]
    assert shared == [("0.0", 1, "conv", 36), ("1.1", 2, "linear", 72)]
    for one in profile:
        wanted = ("v_information", "v_null", "v_equalised", "subspace", "subspace_null", "original", "original_null")
        assert all(np.isfinite(one[name]) for name in wanted)
        assert one["sensitivity"] > 0 and one["sensitivity_input"] > 0 and 0 <= one["auc"] <= 1
        # Neither is wider than what wider layers are projected to.
        assert (
            one["v_equalised"] == one["v_information"] == pytest.approx(attack.report["bits"][one["layer"] + ".weight"])
        )
    assert profile[1]["auc"] > 0.9 and profile[1]["original"] > 0.3


def test_labels_in_random_order_tell_nothing(fitted: Any) -> None:
    _, known, _ = fitted
    made = [np.random.default_rng(seed).permutation(known.attribute) for seed in range(2)]
    found = []
    for attribute in made:
        attack = Localise(OPTIONS, 0)
        attack.fit(replace(known, attribute=attribute))
        found.append(max(attack.report["bits"].values()))
    assert np.mean(found) < 0.25
    assert "profile" not in attack.report


def test_no_example_is_in_two_pools_and_people_stay_whole() -> None:
    known = world()
    groups = np.repeat(np.arange(18), 10)
    # Each person's pictures are of one brightness: the mean input tells whose they were.
    own = (np.arange(180) // 10).astype(np.float32)
    known = replace(known, groups=groups, inputs=np.broadcast_to(own[:, None, None, None], (180, *SHAPE)).copy())
    made = layer_gradients(known, 0, [1, 2], pools=6, repeats=2)
    assert len(made.values) == 2 * 2 * 6 * 2 and sorted(set(made.rounds)) == [1, 2]
    kinds = np.random.default_rng([0, 4]).permutation(18)
    for pool in range(6):
        mine = made.inputs[made.pools == pool]
        people = np.array_split(kinds, 6)[pool]
        assert people.min() <= mine.min() and mine.max() <= people.max()


def test_rows_less_their_models_mean() -> None:
    made = planted()
    rows = made.centred("input", made.values)
    for at in range(12):
        for value in (0, 1):
            chosen = (made.rounds == at) & (made.values == value)
            np.testing.assert_allclose(rows[chosen].mean(0), 0, atol=1e-6)
    assert not np.allclose(rows, made.layers["input"])


def test_with_many_participants_the_attacker_imitates_their_mean() -> None:
    alone, many = (layer_gradients(world(clients), 0, [1], pools=6, repeats=2) for clients in (2, 5))

    def apart(made: Any) -> float:
        rows = made.layers["1.1.weight"]
        return float(np.linalg.norm(rows[made.values == 1].mean(0) - rows[made.values == 0].mean(0)))

    # One of four has the property: its mark on the mean is a fraction of what it is alone.
    assert apart(many) < 0.6 * apart(alone)


def test_an_update_of_another_shape_or_of_no_number_reads_as_nothing_and_is_named(fitted: Any) -> None:
    _, known, _ = fitted
    first, second, *rest = known.training.updates
    broken = [
        replace(first, end={name: np.zeros((2, 2), np.float32) for name in first.end}),
        replace(second, end={name: np.full_like(value, np.nan) for name, value in second.end.items()}),
    ]
    known = replace(known, training=replace(known.training, updates=(*broken, *rest)))
    attack = Localise(OPTIONS, 0)
    attack.fit(known)
    assert attack.report["unread"] == [(OTHERS, 1), (OTHERS, 2)]
    assert np.isfinite(attack.guess(rows(known))).all()


def test_three_values_are_guessed_and_scored() -> None:
    known = world(values=3)
    attack = Localise(OPTIONS.model_copy(update={"snapshots": 2}), 0)
    attack.fit(known)
    assert attack.guess(rows(known)).shape == (ROUNDS, 3)


def test_auc_is_scikit_learns_of_held_out_rows() -> None:
    made = planted()
    read = reading(made, "property", 0, permutations=0)
    assert read is not None
    assert auc(read) == roc_auc_score(made.values, read.reading.evidence[:, 1])


def test_pools_without_a_value_are_named() -> None:
    known = world()
    attribute = np.zeros(180, np.int64)
    attribute[:4] = 1
    with pytest.raises(ValueError, match=r"options\.pools: 6 is too many, because some parts .* lack a value"):
        Localise(OPTIONS, 0).fit(replace(known, attribute=attribute))
