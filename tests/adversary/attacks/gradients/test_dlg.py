"""Acceptance test 7: labels off the last layer; and DLG and iDLG on small smooth pictures."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from adversary.attacks.gradients.batch_labels import labels_of
from adversary.attacks.gradients.dlg import Dlg, DlgOptions
from adversary.attacks.gradients.gradient_matching import victim
from adversary.attacks.gradients.idlg import Idlg, IdlgOptions
from tests.adversary.attacks.gradients.inversions import federate, run, smooth
from wireleak.common.measures.scores.matching import match
from wireleak.common.measures.scores.psnr import PeakSignalToNoise

LENET = {"name": "dlg-lenet", "input_shape": (1, 8, 8), "classes": 4, "cut": 1}


def psnr(guess: Any, truth: Any) -> float:
    return PeakSignalToNoise()(guess[match(guess, truth)], truth, np.random.default_rng(0)).value


def last_gradients(activation: Any, labels: Any, seed: Any, classes: Any = 10) -> Any:
    """Gradients of the last layer of a random perceptron, by autograd: weights and biases."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(20, 32), activation, nn.Linear(32, classes))
    loss = cross_entropy(network(torch.randn(len(labels), 20)), torch.as_tensor(labels))
    found = torch.autograd.grad(loss, [*network[-1].parameters()])
    return [gradient.numpy() for gradient in found]


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Sigmoid()])
def test_the_label_of_one_example_is_always_right_where_features_are_not_negative(activation: Any) -> None:
    for seed in range(100):
        weights, _ = last_gradients(activation, [seed % 10], seed)
        assert labels_of(weights, None, 1).tolist() == [seed % 10]


def test_the_rule_fails_where_features_change_sign_and_the_biases_do_not() -> None:
    right = {"weights": 0, "biases": 0}
    for seed in range(100):
        weights, biases = last_gradients(nn.Tanh(), [seed % 10], seed)
        right["weights"] += labels_of(weights, None, 1).tolist() == [seed % 10]
        right["biases"] += labels_of(weights, biases, 1).tolist() == [seed % 10]
    assert right["biases"] == 100
    assert 0.3 < right["weights"] / 100 < 0.7  # the sum of a tanh's features is as often negative as positive


def test_labels_of_a_batch_are_counted() -> None:
    hits, total = 0, 0
    for seed in range(100):
        truth = np.random.default_rng(seed).integers(0, 10, 8)
        weights, _ = last_gradients(nn.Sigmoid(), truth, seed)
        found = labels_of(weights, None, 8)
        assert len(found) == 8 and (np.diff(found) >= 0).all()
        # A class that is missing never has a negative sum in a batch either.
        assert set(found) <= set(truth)
        hits += np.minimum(np.bincount(found, minlength=10), np.bincount(truth, minlength=10)).sum()
        total += 8
    assert 0.85 < hits / total < 1


def test_labels_are_read_at_any_scale_and_never_more_than_there_are() -> None:
    weights, _ = last_gradients(nn.ReLU(), [3, 3, 5, 7], 0)
    assert labels_of(1e-6 * weights, None, 4).tolist() == labels_of(weights, None, 4).tolist() == [3, 3, 5, 7]
    assert len(labels_of(weights, None, 2)) == 2


@pytest.mark.parametrize(("epochs", "mini"), [(1, None), (3, None), (1, 3)])
def test_the_imitation_of_the_true_inputs_is_what_the_client_sent(epochs: int, mini: int | None) -> None:
    x = smooth(4, 8, 0)
    y = np.array([0, 1, 2, 2])
    known = federate(LENET, x[None], y[None], epochs=epochs, mini=mini)
    assert known.training is not None and known.recipe is not None
    one = victim(known.training.updates[0], known.network(), known.recipe, 4)
    # A last single example joins the batch before, and the client's order is its own.
    rows = np.random.default_rng((0, 1)).permutation(4) if mini else np.arange(4)
    assert [len(step) for step in one.steps] == [4] * epochs
    made = one.imitate(torch.from_numpy(x[rows]), torch.from_numpy(y[rows]))
    for gradient, sent in zip(made, one.gradients.values(), strict=True):
        torch.testing.assert_close(gradient, sent, rtol=1e-3, atol=1e-4)


def test_dlg_and_idlg_find_one_picture_each() -> None:
    x = smooth(2, 8, 1)[:, None]
    y = np.array([[1], [3]])
    known = federate(LENET, x, y)
    found = run(idlg := Idlg(IdlgOptions(iterations=40), 0), known)
    assert found.shape == (2, 1, 8, 8) and found.min() >= 0 and found.max() <= 1
    assert idlg.report["labels"] == [[1], [3]]
    assert min(psnr(found[:1], x[0]), psnr(found[1:], x[1])) > 35
    both = run(dlg := Dlg(DlgOptions(iterations=40), 0), known)
    assert max(dlg.report["distance"]) < 1e-5
    assert min(psnr(both[:1], x[0]), psnr(both[1:], x[1])) > 35


def test_the_seed_repeats_a_search_and_another_start_differs() -> None:
    known = federate(LENET, smooth(1, 8, 2)[None], np.array([[0]]))
    options = IdlgOptions(iterations=1, restarts=1)
    one, again, other = (run(Idlg(options, seed), known) for seed in (0, 0, 1))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_an_update_of_nonsense_gives_a_guess_within_the_range() -> None:
    known = federate(LENET, smooth(1, 8, 2)[None], np.array([[0]]))
    assert known.training is not None
    (update,) = known.training.updates
    broken = replace(update, end={name: np.full_like(value, np.nan) for name, value in update.end.items()})
    known = replace(known, training=replace(known.training, updates=(broken,)))
    found = run(Idlg(IdlgOptions(iterations=3, restarts=1), 0), known)
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training": None}, "reads updates"),
        ({"model": None}, r"granted\.model"),
    ],
)
def test_what_is_missing_is_named(change: dict[str, Any], words: str) -> None:
    known = federate(LENET, smooth(1, 8, 2)[None], np.array([[0]]))
    with pytest.raises(ValueError, match=words) as error:
        run(Dlg(DlgOptions(), 0), replace(known, **change))
    assert "\n" not in str(error.value)


def test_adam_and_another_networks_update_are_refused() -> None:
    known = federate(LENET, smooth(1, 8, 2)[None], np.array([[0]]), optimiser="adam")
    with pytest.raises(ValueError, match=r"system\.optimiser"):
        run(Dlg(DlgOptions(), 0), known)
    known = federate(LENET, smooth(1, 8, 2)[None], np.array([[0]]))
    assert known.model is not None
    other = known.model.model_copy(update={"classes": 7})
    with pytest.raises(ValueError, match="is not of this network") as error:
        run(Dlg(DlgOptions(), 0), replace(known, model=other))
    assert "\n" not in str(error.value)
