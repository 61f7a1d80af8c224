"""Acceptance test 6: one example through a fully connected layer, and an imprinted batch, come back exactly."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn.functional import cross_entropy

from adversary.attacks.gradients.analytic import imprint_layer, input_of, inputs_of_bins


def gradients(layer: Any, loss: Any) -> Any:
    weight, bias = torch.autograd.grad(loss, (layer.weight, layer.bias))
    return weight.numpy(), bias.numpy()


def through_a_network(x: Any, y: Any) -> Any:
    """Gradients of the first layer of a small classifier, by autograd."""
    torch.manual_seed(0)
    first = torch.nn.Linear(20, 8)
    rest = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(8, 3))
    return gradients(first, cross_entropy(rest(first(torch.from_numpy(x))), torch.from_numpy(y)))


def recovered(weight: Any, bias: Any) -> npt.NDArray[np.float64]:
    found = input_of(weight, bias)
    assert found is not None
    return found


def test_one_example_is_exact_at_any_scale() -> None:
    x = np.random.default_rng(0).random((1, 20), np.float32)
    weight, bias = through_a_network(x, np.array([1]))
    assert np.allclose(recovered(weight, bias), x[0], atol=1e-6)
    assert np.allclose(recovered(-0.01 * weight, -0.01 * bias), x[0], atol=1e-6)


def test_several_examples_are_a_weighted_mean() -> None:
    x = np.random.default_rng(0).random((2, 20), np.float32)
    found = recovered(*through_a_network(x, np.array([1, 1])))
    share, residual, *_ = np.linalg.lstsq(x.T, found, rcond=None)
    assert residual < 1e-8 and share.sum() == pytest.approx(1, abs=1e-4)
    assert min(np.abs(found - x).max(1)) > 1e-2


def test_a_layer_that_no_example_reached_gives_nothing() -> None:
    assert input_of(np.zeros((3, 4)), np.zeros(3)) is None


class Imprinted:
    """An imprint layer made from public inputs, and the gradients that a batch leaves in it."""

    def __init__(self, bins: int, d: int = 30) -> None:
        self.rng, self.d = np.random.default_rng(1), d
        self.bins = bins
        weight, bias = imprint_layer(self.draw(5000), bins)
        self.thresholds = -bias
        self.layer = torch.nn.Linear(d, bins).double()
        self.layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})

    def draw(self, n: int) -> npt.NDArray[np.float64]:
        # Brightness differs between inputs as it does between images.
        return self.rng.random((n, 1)) * 0.6 + 0.4 * self.rng.random((n, self.d))

    def bin_of(self, x: Any) -> Any:
        return np.searchsorted(self.thresholds, x.mean(1), side="right") - 1

    def gradients(self, x: Any, steps: Any = 1.0) -> Any:
        # The layers behind send the same gradient to every unit, as in the paper: their columns are equal.
        hidden = torch.relu(self.layer(torch.from_numpy(x)))
        return tuple(steps * g for g in gradients(self.layer, (hidden.sum(1) ** 2).mean()))


def alone(bins: Any) -> Any:
    return [int(b) for b in np.unique(bins) if (bins == b).sum() == 1 and b >= 0]


def test_every_example_that_is_alone_in_its_bin_is_exact() -> None:
    server = Imprinted(bins=128)
    x = server.draw(16)
    own = server.bin_of(x)
    found, bins = inputs_of_bins(*server.gradients(x))
    assert set(bins) == set(own[own >= 0]) and len(alone(own)) >= 8
    for number in alone(own):
        (victim,) = x[own == number]
        assert np.allclose(found[list(bins).index(number)], victim, atol=1e-8)


def test_bins_are_as_full_as_each_other() -> None:
    server = Imprinted(bins=8)
    own = server.bin_of(server.draw(20_000))
    filled = np.bincount(own[own >= 0], minlength=8)
    assert filled.min() > 0.8 * filled.max()


def test_two_in_one_bin_give_their_average_which_is_no_success() -> None:
    server = Imprinted(bins=4)
    x = server.draw(200)
    number = 2
    pair = x[server.bin_of(x) == number][:2]
    hidden = torch.relu(server.layer(torch.from_numpy(pair)))
    found, bins = inputs_of_bins(*gradients(server.layer, hidden.sum()))  # both examples weigh the same
    assert bins.tolist() == [number]
    assert np.allclose(found[0], pair.mean(0), atol=1e-10)
    assert min(np.abs(found[0] - pair).max(1)) > 0.01


def test_the_last_bin_and_an_update_over_many_clients() -> None:
    server = Imprinted(bins=16)
    x = server.draw(300)
    first, last = x[server.bin_of(x) == 3][:1], x[server.bin_of(x) == 15][:1]
    each = [server.gradients(one, steps=-0.1) for one in (first, last)]
    found, bins = inputs_of_bins(sum(w for w, _ in each), sum(b for _, b in each))
    assert bins.tolist() == [3, 15]
    assert np.allclose(found, np.concatenate([first, last]), atol=1e-8)


def test_float32_rounding_fills_no_empty_bin() -> None:
    server = Imprinted(bins=64)
    x = server.draw(300)
    chosen = x[[np.flatnonzero(server.bin_of(x) == number)[0] for number in (5, 40)]]
    weight, bias = (g.astype(np.float32) for g in server.gradients(chosen))
    found, bins = inputs_of_bins(weight, bias)
    assert bins.tolist() == [5, 40] and np.allclose(found, chosen, atol=1e-4)


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (np.ones((2, 3)), np.ones(3), "do not belong to one linear layer"),
        (np.ones(3), np.ones(3), "do not belong to one linear layer"),
        (np.full((2, 3), np.nan), np.ones(2), "not finite"),
    ],
)
def test_what_is_no_gradient_of_a_linear_layer_is_refused(weight: Any, bias: Any, message: str) -> None:
    for recover in (input_of, inputs_of_bins):
        with pytest.raises(ValueError, match=message):
            recover(weight, bias)
    with pytest.raises(ValueError, match="give 2 bins"):
        imprint_layer(np.ones((3, 2)), 1)
