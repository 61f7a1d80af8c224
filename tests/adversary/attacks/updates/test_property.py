"""Property inference on small trainings: found where the property shifts inputs, chance where labels are shuffled."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy

from adversary.attacks.harness.attack import PERMUTATIONS as DRAWS
from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.training import Recipe, Seen, Update
from adversary.attacks.updates.aggregation import Aggregation, join
from adversary.attacks.updates.imitation import Imitation
from adversary.attacks.updates.property import Property, PropertyOptions
from wireleak.common.models import ModelConfig
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan
from wireleak.common.traffic import OTHERS

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BATCH = 16
# Shorter than most updates.
CLIPPED = 0.048
FEWER = {"mixed": 1, "without": 5}
MODEL = ModelConfig(name="conv1d", input_shape=(2, 16), classes=2, cut=1, seed=0)


def people(n: int, shift: float, rng: np.random.Generator, which: Any = None) -> tuple[Floats, Ints, Ints]:
    """Inputs whose mean the property shifts; the task has nothing to do with it."""
    has = rng.integers(0, 2, n) if which is None else np.full(n, which)
    labels = rng.integers(0, 2, n)
    x = rng.standard_normal((n, 2, 16)) + shift * has[:, None, None]
    x[:, 0] += labels[:, None] - 0.5
    return x.astype(np.float32), labels, has


def world(
    clients: Any = 2,
    shift: Any = 1.0,
    seed: Any = 0,
    own: Any = None,
    epochs: Any = 1,
    optimiser: Any = "sgd",
    rounds: Any = 8,
    rate: Any = 0.05,
    rule: Any = "mean",
) -> Any:
    """A training in which every other round of client 1's has the property, as an attacker sees it; and the truth."""
    rng = np.random.default_rng(seed)
    blocks = MODEL.network().blocks
    plan = ClientPlan(rounds=rounds, epochs=epochs, batch=BATCH // epochs, learning_rate=rate, optimiser=optimiser)
    state = {name: value.numpy().copy() for name, value in blocks.state_dict().items()}
    models, updates, ours, truth = {}, [], [], []
    for number in range(1, rounds + 1):
        models[number], ends = state, []
        for client in range(clients):
            has = client == 1 and number % 2
            blocks.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
            train_whole(blocks, *people(BATCH, shift, rng, has)[:2], Training(plan, (seed, number)))
            ends.append({name: value.numpy().copy() for name, value in blocks.state_dict().items()})
            if own is None:
                updates.append(Update(client, number, state, ends[-1]))
                truth.append(has)
        if own is not None:
            others = [end for client, end in enumerate(ends) if client != own]
            mean = {name: np.mean([end[name] for end in others], 0) for name in state}
            updates.append(Update(OTHERS, number, state, mean))
            ours.append(Update(own, number, state, ends[own]))
            truth.append(number % 2)
        deltas = [{name: end[name] - state[name] for name in state} for end in ends]
        joined = join(deltas, Aggregation(rule=rule, clipping_norm=CLIPPED))
        state = {name: state[name] + value for name, value in joined.items()}
    models[rounds + 1] = state
    x, y, having = people(300, shift, rng)
    seen = Seen(models, tuple(updates), tuple(ours))
    recipe = Recipe(plan, clients, BATCH, own)
    none, copies = np.zeros(0, np.float32), np.zeros(len(x), bool)
    known = Knowledge(none, x, y, having, 2, copies, seed, model=MODEL, training=seen, recipe=recipe)
    return known, np.array(truth, int)


def guesses(known: Any, **options: Any) -> Any:
    attack = Property(PropertyOptions(**({"tsne": False} | options)), known.seed)
    attack.fit(known)
    return attack.guess(known.training.updates), attack


@pytest.mark.parametrize("learner", ["forest", "logistic"])
def test_a_property_that_shifts_the_inputs_is_read_off_every_update(learner: str) -> None:
    known, truth = world()
    guess, attack = guesses(known, learner=learner)
    assert guess.shape == (16, 2) and np.allclose(guess.sum(1), 1, atol=1e-5)
    assert roc_auc_score(truth, guess[:, 1]) > 0.98
    assert attack.report["updates_made"] == 8 * 16 and not attack.report["unread"]


def test_the_number_of_fits_to_permuted_values_is_a_setting() -> None:
    counts = [Property(PropertyOptions(**options), seed=0).permutations for options in ({}, {"permutations": 5})]
    assert counts == [DRAWS, 5]


@pytest.mark.parametrize("learner", ["forest", "logistic"])
def test_draws_of_permuted_values_average_to_chance(learner: str) -> None:
    """One draw that takes some trait of the property for the value is right, or wrong, on all updates alike."""
    known, truth = world(seed=1)
    real, attack = guesses(known, **FEWER, learner=learner)
    rng, updates = np.random.default_rng(0), known.training.updates
    each = [roc_auc_score(truth, attack.permuted(known, rng).guess(updates)[:, 1]) for _ in range(DRAWS)]
    half = stats.t.ppf(0.975, DRAWS - 1) * stats.sem(each)
    assert abs(np.mean(each) - 0.5) < half < 0.2
    assert roc_auc_score(truth, real[:, 1]) > 0.5 + 2 * half
    assert np.array_equal(attack.guess(updates), real)


@pytest.mark.parametrize("clients", [2, 3])
def test_a_participant_reads_it_off_the_mean_of_the_others(clients: int) -> None:
    known, truth = world(clients, own=0, rounds=12)
    assert roc_auc_score(truth, guesses(known, **FEWER)[0][:, 1]) > 0.9


@pytest.mark.parametrize("rule", ["trimmed-mean", "norm-clipping"])
def test_a_participant_imitates_a_server_that_takes_no_mean(rule: Any) -> None:
    known, truth = world(4, own=0, rounds=16, rule=rule)
    assert roc_auc_score(truth, guesses(known, rule=rule, clipping_norm=CLIPPED)[0][:, 1]) > 0.9


def test_two_epochs_of_adam_are_imitated() -> None:
    known, truth = world(epochs=2, optimiser="adam", rate=0.005)
    assert roc_auc_score(truth, guesses(known, **FEWER)[0][:, 1]) > 0.9


@pytest.mark.parametrize(("own", "others"), [(None, 0), (0, 2)])
def test_imitated_updates_are_as_many_gradients_as_the_others_send(own: int | None, others: int) -> None:
    """Oracle: torch.autograd. Each draw is of all there is, so that nothing is left to chance."""
    rng = np.random.default_rng(0)
    with_it, without = people(BATCH, 1.0, rng, 1), people(BATCH, 1.0, rng, 0)
    x, y, has = (np.concatenate([with_it[place], without[place]]) for place in range(3))
    plan = ClientPlan(rounds=1, epochs=1, batch=BATCH, learning_rate=0.05, optimiser="sgd")
    known = Knowledge(
        np.zeros(0, np.float32), x, y, has, 2, np.zeros(len(x), bool), 0, model=MODEL,
        recipe=Recipe(plan, others + 2, BATCH, own),
    )  # fmt: skip
    blocks = MODEL.network().blocks
    start = {name: value.numpy().copy() for name, value in blocks.state_dict().items()}
    made = Imitation(known, 0).updates(start, 1, 1.0)

    def gradient(inputs: Any, labels: Any, _: Any) -> Any:
        loss = cross_entropy(blocks(torch.from_numpy(inputs)), torch.from_numpy(labels))
        return torch.autograd.grad(loss, list(blocks.parameters()))

    all_of_them = [gradient(*with_it)] + [gradient(*without)] * others
    assert len(made) == len(all_of_them)
    for update, wanted in zip(made, all_of_them, strict=True):
        for (name, _), each in zip(blocks.named_parameters(), wanted, strict=True):
            np.testing.assert_allclose(update[name], -0.05 * each.numpy(), rtol=1e-3, atol=1e-6)


def test_the_seed_repeats_it() -> None:
    known, _ = world(rounds=3)
    assert np.array_equal(guesses(known, **FEWER)[0], guesses(known, **FEWER)[0])


def test_unreadable_updates_are_named_and_the_rest_is_read() -> None:
    known, truth = world()
    first, second, *rest = known.training.updates
    name = next(iter(first.end))
    nan = replace(first, end={**first.end, name: np.full_like(first.end[name], np.nan)})
    shape = replace(second, end={**second.end, name: np.zeros(3, np.float32)})
    guess, attack = guesses(replace(known, training=replace(known.training, updates=(nan, shape, *rest))))
    assert attack.report["unread"] == [(first.sender, first.round), (second.sender, second.round)]
    assert np.isfinite(guess).all() and roc_auc_score(truth[2:], guess[2:, 1]) > 0.95


def test_people_that_are_not_the_attackers_are_told_apart_by_group() -> None:
    """Groups: each person's examples have one value, and some offset of their own."""
    known, truth = world()
    groups = known.attribute * 10 + np.arange(len(known)) % 5
    guess, _ = guesses(replace(known, groups=groups), by_group=True, mixtures=())
    assert roc_auc_score(truth, guess[:, 1]) > 0.95
    with pytest.raises(ValueError, match=r"^options.by_group: the attacker's examples name no people"):
        guesses(known, by_group=True)


def test_permuted_values_move_between_whole_people() -> None:
    """A null of single updates is too narrow: ten people's updates have ten values, not a hundred."""
    known, _ = world(shift=0.0)
    groups = known.attribute * 10 + np.arange(len(known)) % 5
    attack = guesses(replace(known, groups=groups), by_group=True, mixtures=(), tsne=False)[1]
    mixed = attack.permuted(known, np.random.default_rng(0))._by_round[1]
    assert mixed.people is not None
    of_person = {person: {int(value) for value in mixed.values[mixed.people == person]} for person in mixed.people}
    assert len(of_person) == 10 and all(len(values) == 1 for values in of_person.values())
    assert {int(person >= 10) for person, values in of_person.items() if values == {1}} == {0, 1}


def test_a_layer_that_is_left_out_says_nothing() -> None:
    """Its captured updates may hold anything, and the guess stays."""
    known, truth = world()
    first = next(iter(known.training.updates[0].end))
    noise = np.random.default_rng(3)
    changed = [
        replace(one, end={**one.end, first: noise.standard_normal(one.end[first].shape).astype(np.float32)})
        for one in known.training.updates
    ]
    other = replace(known, training=replace(known.training, updates=tuple(changed)))
    guess = guesses(known, **FEWER, leave_out=[first])[0]
    assert np.array_equal(guesses(other, **FEWER, leave_out=[first])[0], guess)
    assert roc_auc_score(truth, guess[:, 1]) > 0.9
    with pytest.raises(ValueError, match=r"^options.leave_out: no layer begins with 'first'"):
        guesses(known, leave_out=["first"])


def test_a_property_that_the_attacker_never_sees_vary_is_refused() -> None:
    known, _ = world()
    with pytest.raises(ValueError, match=r"^target: the examples' values are \[1\]"):
        guesses(replace(known, attribute=np.ones_like(known.attribute)))


def test_the_drawing_has_a_place_for_every_update() -> None:
    known, truth = world(shift=3.0)
    drawing = guesses(known, **FEWER, tsne=True)[1].report["tsne"]
    assert drawing["unit"] == [list(unit) for unit in known.training.units]
    places = np.stack([drawing["x"], drawing["y"]], 1)
    assert places.shape == (len(truth), 2) and np.isfinite(places).all()
