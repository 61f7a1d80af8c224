"""Inputs from one layer's gradient: the layer that determines them gives them back, and its scores have baselines."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adversary.attacks.gradients.gradient_matching import victim
from adversary.attacks.gradients.layer_inversion import LayerInversion, LayerInversionOptions, _only
from adversary.attacks.gradients.layer_scores import layer_scores
from tests.adversary.attacks.gradients.inversions import federate, smooth
from wireleak.common.models.networks import register

SIDE = 12


@register("first-dense-of-a-test")
def first_dense(input_shape: Any, classes: Any) -> nn.Sequential:
    """The gradient of layer 1 is the input, times each unit's error; that of layer 2 has 3 numbers for 144 pixels."""
    first = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 2), nn.Sigmoid())
    return nn.Sequential(first, nn.Sequential(nn.Linear(2, classes)))


def world(examples: int = 1, epochs: int = 1, name: str = "first-dense-of-a-test") -> Any:
    config = {"name": name, "input_shape": (1, SIDE, SIDE), "classes": 4, "cut": 1, "seed": 0}
    labels = np.arange(2 * examples).reshape(2, examples) % 4
    x = smooth(2 * examples, SIDE, 1).reshape(2, examples, 1, SIDE, SIDE)
    known: Any = federate(config, x, labels, epochs=epochs)
    own = smooth(40, SIDE, 7)
    return replace(known, inputs=own, labels=np.arange(40) % 4, augmented=np.zeros(40, bool)), x


@pytest.fixture(scope="module")
def fitted() -> Any:
    known, x = world()
    attack = LayerInversion(LayerInversionOptions(examples=3, iterations=40, refine=200), 0)
    attack.fit(known)
    return attack, attack.guess(known.training.updates), x.reshape(-1, 1, SIDE, SIDE)


def test_the_layer_that_holds_the_input_gives_it_back_and_one_with_few_numbers_does_not(fitted: Any) -> None:
    attack, _, _ = fitted
    first, last = attack.report["profile"]
    facts = [tuple(row[name] for name in ("layer", "index", "kind", "parameters")) for row in (first, last)]
    assert facts == [("0.1", 1, "linear", 2 * SIDE * SIDE), ("1.0", 2, "linear", 8)]
    assert first["inverted"] > 15 and first["inverted"] > first["inverted_null_high"]
    assert last["inverted"] < 3
    # The search explains both gradients, so the last layer's failure is no failure of the search.
    assert first["inverted_match"] > 0.999 and last["inverted_match"] > 0.999
    assert first["inverted_all"] == attack.report["all_layers"]["inverted_psnr"] > first["inverted_mean"] + 15
    assert attack.report["layer"] == "0.1" and attack.report["updates_made"] == 3


def test_the_best_layer_rebuilds_the_inputs_of_captured_updates(fitted: Any) -> None:
    attack, guess, truth = fitted
    assert guess.shape == truth.shape and guess.dtype == np.float32
    assert np.square(guess - truth).mean() < 0.05 * truth.var()
    assert attack.report["labels"] == [[0], [1]]


def test_only_one_layers_gradients_are_compared_also_after_several_local_steps() -> None:
    known, x = world(examples=2, epochs=3, name="dlg-lenet")
    update = known.training.updates[0]
    one = victim(update, known.network(), known.recipe, 2)
    part = _only(one, "1.0")
    assert list(part.gradients) == ["1.0.weight", "1.0.bias"]
    labels = torch.tensor([0, 1])
    made, whole = part.imitate(torch.from_numpy(x[0]), labels), one.imitate(torch.from_numpy(x[0]), labels)
    place = list(one.start).index("1.0.weight")
    for mine, same in zip(made, whole[place : place + 2], strict=True):
        assert torch.equal(mine, same)
    # All layers move in the imitated steps: the captured update is explained.
    sent = torch.cat([value.flatten() for value in part.gradients.values()])
    assert torch.cosine_similarity(torch.cat([m.flatten() for m in made]), sent, dim=0) > 1 - 1e-5


def test_the_mean_update_of_several_clients_is_imitated_client_by_client() -> None:
    # Each client trains from the global model by itself, so neither one long training nor one large batch explains it.
    x, labels = smooth(6, SIDE, 1).reshape(3, 2, 1, SIDE, SIDE), np.arange(6).reshape(3, 2) % 4
    config = {"name": "dlg-lenet", "input_shape": (1, SIDE, SIDE), "classes": 4, "cut": 1, "seed": 0}
    known: Any = federate(config, x, labels, epochs=5, rate=2.0, aggregate=True)
    one = victim(known.training.updates[0], known.network(), known.recipe, 6)
    assert one.clients == 3 and one.shape[0] == 6
    sent = torch.cat([value.flatten() for value in one.gradients.values()])

    def missed(searched: Any) -> float:
        made = searched.imitate(torch.from_numpy(x.reshape(6, *x.shape[2:])), torch.from_numpy(labels.ravel()))
        return float((torch.cat([value.detach().flatten() for value in made]) - sent).norm() / sent.norm())

    assert missed(one) < 1e-5
    assert missed(replace(one, clients=1)) > 0.01


def test_where_clients_are_averaged_the_attacker_averages_its_own_updates_too() -> None:
    config = {"name": "first-dense-of-a-test", "input_shape": (1, SIDE, SIDE), "classes": 4, "cut": 1, "seed": 0}
    x = smooth(2, SIDE, 1).reshape(2, 1, 1, SIDE, SIDE)
    known: Any = federate(config, x, np.array([[0], [1]]), epochs=2, aggregate=True)
    known = replace(known, inputs=smooth(40, SIDE, 7), labels=np.arange(40) % 4, augmented=np.zeros(40, bool))
    attack = LayerInversion(LayerInversionOptions(examples=2, iterations=10, refine=60), 0)
    attack.fit(known)
    guess = attack.guess(known.training.updates)
    assert guess.shape == (2, 1, SIDE, SIDE)
    made, truth = attack._own_updates(known)
    assert [len(rows) for rows in truth] == [2, 2]
    (update, labels), rows = made[0], truth[0]
    whole = victim(update, known.network(), known.recipe, 2).imitate(torch.from_numpy(rows), labels)
    sent = update.gradient(known.recipe.plan.learning_rate)
    for made_of, name in zip(whole, sent, strict=True):
        assert made_of.detach().numpy() == pytest.approx(sent[name], abs=1e-5)


def test_fewer_examples_than_an_update_has_are_refused() -> None:
    known, _ = world(examples=4)
    with pytest.raises(ValueError, match=r"granted.surrogate: it has 3 examples, and an update has 4; grant more"):
        LayerInversion(LayerInversionOptions(), 0).fit(known.take(slice(3)))


def test_the_scores_are_decibels_above_the_mean_input_with_other_updates_as_the_null() -> None:
    truth = [np.full((1, 1, 2, 2), value, np.float32) for value in (0.2, 0.4, 0.9)]
    found = [one + np.float32(0.1) for one in truth]
    mean = np.full((1, 2, 2), 0.5, np.float32)
    scores = layer_scores(found, [0.0, 0.2, 0.5], truth, mean)
    prior = np.mean([-20 * np.log10(abs(value - 0.5)) for value in (0.2, 0.4, 0.9)])
    assert scores["inverted_psnr"] == pytest.approx(20, abs=1e-4)
    assert scores["inverted_mean"] == pytest.approx(prior, abs=1e-4)
    assert scores["inverted"] == pytest.approx(20 - prior, abs=1e-4)
    assert scores["inverted_mse"] == pytest.approx(0.01, rel=1e-4)
    assert scores["inverted_match"] == pytest.approx(0.8)
    shifted = [[0.5 - 0.2, 1.0 - 0.4, 0.3 - 0.9], [1.0 - 0.2, 0.3 - 0.4, 0.5 - 0.9]]
    nulls = [np.mean([-20 * np.log10(abs(off)) for off in row]) - prior for row in shifted]
    assert scores["inverted_null"] == pytest.approx(np.mean(nulls), abs=1e-3)
    # The mean input is a baseline, too.
    assert max(nulls) < 0 == scores["inverted_null_high"]
    assert "inverted_ssim" not in scores


def test_examples_of_a_batch_are_matched_before_they_are_scored() -> None:
    truth = [smooth(3, SIDE, seed) for seed in (1, 2)]
    scores = layer_scores([one[::-1] for one in truth], [0.0, 0.0], truth, truth[0].mean(0))
    assert scores["inverted_psnr"] == 100 and scores["inverted_ssim"] == pytest.approx(1)


def test_a_network_on_series_is_refused() -> None:
    known, _ = world()
    model = known.model.model_copy(update={"name": "conv1d", "input_shape": (2, 16), "classes": 2})
    with pytest.raises(ValueError, match=r"model: layer-inversion compares .* inputs of shape \(2, 16\); take another"):
        LayerInversion(LayerInversionOptions(), 0).fit(replace(known, model=model))
