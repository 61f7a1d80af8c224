"""Property inference on encoders, whose head the attacker never sees: found where the property shifts the inputs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy

from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.training import Recipe, Seen, Update
from adversary.attacks.updates.property_split import EncoderImitation, PropertySplit, PropertySplitOptions
from wireleak.common.models import ModelConfig
from wireleak.common.plan import ClientPlan, PrivacyConfig
from wireleak.common.traffic import OTHERS

BATCH, CUT, RATE = 16, 2, 0.05
MODEL = ModelConfig(name="conv1d", input_shape=(2, 16), classes=2, cut=CUT, seed=0)
PLAN = ClientPlan(rounds=10, epochs=1, batch=BATCH, learning_rate=RATE, optimiser="sgd")


def people(n: int, shift: float, rng: np.random.Generator, which: Any = None) -> Any:
    """Inputs whose mean the property shifts; the task has nothing to do with it."""
    has = rng.integers(0, 2, n) if which is None else np.full(n, which)
    labels = rng.integers(0, 2, n)
    x = rng.standard_normal((n, 2, 16)) + shift * has[:, None, None]
    x[:, 0] += labels[:, None] - 0.5
    return x.astype(np.float32), labels, has


def world(shift: float = 1.0, seed: int = 0) -> Any:
    """Encoders of the other client, trained with a head that the attacker does not have; and the truth."""
    rng = np.random.default_rng(seed)
    encoder, head = MODEL.model_copy(update={"seed": 7}).network().split(CUT)
    steps = torch.optim.Adam(head.parameters(), lr=RATE / 5)
    state = {name: value.numpy().copy() for name, value in encoder.state_dict().items()}
    models, updates, truth = {}, [], []
    for number in range(1, PLAN.rounds + 1):
        models[number], has = state, number % 2
        x, y, _ = people(BATCH, shift, rng, has)
        encoder.zero_grad()
        steps.zero_grad()
        cross_entropy(head(encoder(torch.from_numpy(x))), torch.from_numpy(y)).backward()
        torch.optim.SGD(encoder.parameters(), lr=RATE).step()
        steps.step()
        state = {name: value.numpy().copy() for name, value in encoder.state_dict().items()}
        updates.append(Update(OTHERS, number, models[number], state))
        truth.append(has)
    models[PLAN.rounds + 1] = state
    x, y, having = people(300, shift, rng)
    none, copies = np.zeros(0, np.float32), np.zeros(len(x), bool)
    known = Knowledge(
        none, x, y, having, 2, copies, seed, model=MODEL, training=Seen(models, tuple(updates)),
        recipe=Recipe(PLAN, 2, BATCH, 0),
    )  # fmt: skip
    return known, np.array(truth)


def guessed(known: Any, **options: Any) -> Any:
    attack = PropertySplit(PropertySplitOptions(**({"tsne": False} | options)), known.seed)
    attack.fit(known)
    return attack.guess(known.training.updates), attack


def test_a_property_that_shifts_the_inputs_is_read_without_the_head() -> None:
    known, truth = world()
    guess, attack = guessed(known)
    assert roc_auc_score(truth, guess[:, 1]) > 0.95
    assert attack.report["updates_made"] == 10 * 16 and not attack.report["unread"]
    assert np.array_equal(guessed(known)[0], guess)


def test_a_property_that_is_not_there_is_not_read() -> None:
    """Of many updates each way, no guess is far from the others."""
    scores = [roc_auc_score(truth, guessed(known)[0][:, 1]) for known, truth in (world(0.0, seed) for seed in range(4))]
    assert abs(np.mean(scores) - 0.5) < 0.25


def test_an_imitated_update_is_the_gradient_through_the_attackers_own_head() -> None:
    """Oracle: torch.autograd. Each draw is of all there is, so that nothing is left to chance."""
    rng = np.random.default_rng(0)
    with_it, without = people(BATCH, 1.0, rng, 1), people(BATCH, 1.0, rng, 0)
    x, y, has = (np.concatenate([with_it[place], without[place]]) for place in range(3))
    known = replace(world()[0], inputs=x, labels=y, attribute=has, augmented=np.zeros(len(x), bool))
    start = known.training.models[3]
    own = EncoderImitation(known, 0)
    (made,) = own.updates(start, 1, 1.0)
    assert list(made) == list(start) and set(own.shapes) == set(start)
    encoder, _ = MODEL.network().split(CUT)
    encoder.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in start.items()})
    loss = cross_entropy(own._head(encoder(torch.from_numpy(with_it[0]))), torch.from_numpy(with_it[1]))
    for (name, _), wanted in zip(
        encoder.named_parameters(), torch.autograd.grad(loss, list(encoder.parameters())), strict=True
    ):
        np.testing.assert_allclose(made[name], -RATE * wanted.numpy(), rtol=1e-3, atol=1e-6)


def test_the_own_head_learns_the_task_and_stays_while_updates_are_made() -> None:
    known, _ = world()
    own = EncoderImitation(known, 0)
    own.updates(known.training.models[1], 0, 0.0)
    x, y, _ = people(400, 1.0, np.random.default_rng(9))
    encoder, _ = MODEL.network().split(CUT)
    encoder.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in known.training.models[1].items()})
    before = {name: value.clone() for name, value in own._head.state_dict().items()}
    with torch.inference_mode():
        assert (own._head(encoder(torch.from_numpy(x))).argmax(1).numpy() == y).mean() > 0.65
    own.updates(known.training.models[1], 1, 0.5)
    assert all(torch.equal(value, before[name]) for name, value in own._head.state_dict().items())


def test_with_poison_the_own_head_learns_the_property_too() -> None:
    """The head answers the property's value more often the more of its labels were that."""
    known, _ = world()
    x, _, has = people(400, 1.0, np.random.default_rng(9))
    encoder, _ = MODEL.network().split(CUT)
    encoder.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in known.training.models[1].items()})
    named = []
    for poison in (0.0, 0.5, 0.9):
        own = EncoderImitation(known, 0, poison=poison)
        own.updates(known.training.models[1], 0, 0.0)
        with torch.inference_mode():
            named.append((own._head(encoder(torch.from_numpy(x))).argmax(1).numpy() == has).mean())
    assert named[0] + 0.1 < named[1] < named[2] and named[2] > 0.8
    many = replace(known, attribute=known.attribute * 2)
    with pytest.raises(ValueError, match=r"^options.poison: the attribute has a value 2, but the task only 2 labels"):
        guessed(many, poison=0.2)


def test_a_training_with_noise_is_refused() -> None:
    known, _ = world()
    noised = replace(known.recipe, privacy=PrivacyConfig(noise_multiplier=1.0))
    with pytest.raises(ValueError, match=r"^training.privacy: property-split imitates no DP-SGD"):
        guessed(replace(known, recipe=noised))
