"""Rows of updates: each rule of the authors' code on a layer of its own, and what the row does not depend on."""

from typing import Any

import numpy as np
import pytest
import torch

from adversary.attacks.updates.update_features import check_left_out, features
from wireleak.common.models import build
from wireleak.common.models.training import Training, task_loss, train_whole
from wireleak.common.plan import ClientPlan

RNG = np.random.default_rng(0)


def layer(*shape: Any) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def unit(row: Any) -> Any:
    return np.abs(row) / np.linalg.norm(row)


@pytest.mark.parametrize(
    ("shape", "reduced"),
    [
        ((8, 4, 3, 3), lambda w: np.abs(w).max((2, 3))),
        ((50, 100, 3, 3), lambda w: np.abs(w).max((2, 3))),
        ((50, 101, 3, 3), lambda w: w[:0]),
        ((8, 4, 5), lambda w: np.abs(w).max(2)),
        ((50, 100), lambda w: w),
        ((50, 101), lambda w: np.abs(w).max(1)),
        ((30,), lambda w: w),
    ],
)
def test_each_kind_of_layer(shape: Any, reduced: Any) -> None:
    one, other = layer(*shape), layer(3, 2)
    wanted = unit(np.concatenate([reduced(one).ravel(), other.ravel()]))
    row = features({"0.weight": one, "1.weight": other})
    assert row.dtype == np.float32
    np.testing.assert_allclose(row, wanted, rtol=1e-5)


def test_biases_counters_and_running_statistics_are_dropped() -> None:
    kept = {"0.weight": layer(4, 3)}
    dropped = {
        "0.bias": layer(4), "1.bias_ih_l0": layer(4), "2.running_mean": layer(4), "2.running_var": layer(4),
        "2.num_batches_tracked": np.array(3),
    }  # fmt: skip
    assert np.array_equal(features(kept | dropped), features(kept))


def test_layers_that_are_left_out_are_not_read() -> None:
    first, second = layer(4, 3), layer(2, 4)
    update = {"0.table.weight": first, "10.weight": second}
    assert np.array_equal(features(update, ("0.",)), features({"10.weight": second}))
    assert np.array_equal(features(update, ("1",)), features({"0.table.weight": first}))
    check_left_out(("0.",), update)
    with pytest.raises(ValueError, match=r"^options.leave_out: no layer begins with '2\.'; layers are 0\.table"):
        check_left_out(("0.", "2."), update)
    with pytest.raises(ValueError, match=r"^options.leave_out: leaves no layer to read"):
        check_left_out(("0.", "1"), update)


def test_a_step_of_sgd_reads_as_its_gradient() -> None:
    """Oracle: torch.autograd."""
    inputs, labels = layer(20, 1, 28, 28), RNG.integers(0, 2, 20)
    network = build("strided28", (1, 28, 28), 2, 0).blocks
    before = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    loss = task_loss(network, torch.from_numpy(inputs), torch.from_numpy(labels))
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    gradient = {name: g.numpy() for (name, _), g in zip(network.named_parameters(), gradients, strict=True)}
    train_whole(
        network, inputs, labels, Training(ClientPlan(epochs=1, batch=20, learning_rate=0.1, optimiser="sgd"), (0,))
    )
    delta = {name: value.numpy() - before[name] for name, value in network.state_dict().items()}
    assert features(gradient).shape == (16 + 512 + 1024 + 1024 + 16 + 3 * 32 + 32 * 128 + 256,)
    np.testing.assert_allclose(features(delta), features(gradient), atol=1e-5)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_update_that_says_nothing_reads_as_zeros(value: Any) -> None:
    assert np.array_equal(features({"0.weight": np.full((2, 3), value, np.float32)}), np.zeros(6))
    assert features({}).shape == (0,)
