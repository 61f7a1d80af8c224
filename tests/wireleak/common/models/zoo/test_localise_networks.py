"""The networks in which leakage is localised: their layers, and that plain SGD trains them."""

from typing import Any

import numpy as np
import pytest
import torch

from wireleak.common.models import build
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan


def weights(name: Any, shape: Any, classes: Any = 2) -> Any:
    return [tuple(p.shape) for p in build(name, shape, classes, seed=0).blocks.parameters() if p.ndim > 1]


@pytest.mark.parametrize(("side", "flat"), [(28, 576), (32, 1024)])
def test_the_layers_are_the_papers(side: int, flat: int) -> None:
    convolutions = [(16, 1, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3)]
    assert weights("mo-alexnet", (1, side, side)) == [*convolutions, (256, flat), (2, 256)]
    assert weights("mo-fcnet", (1, side, side)) == [(32, side * side), *[(32, 32)] * 8, (2, 32)]


def test_the_network_for_searches_has_strides_and_two_dense_layers() -> None:
    convolutions = [(12, 1, 5, 5), (12, 12, 5, 5), (12, 12, 5, 5)]
    assert weights("localise-lenet", (1, 28, 28), 10) == [*convolutions, (64, 12 * 7 * 7), (10, 64)]


def test_the_signal_keeps_its_size_through_all_layers() -> None:
    x = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for seed in range(3):
            answers = build("mo-fcnet", (1, 28, 28), 2, seed).blocks(x)
            assert 0.1 < answers.abs().mean() < 100


@pytest.mark.parametrize("name", ["mo-alexnet", "mo-fcnet", "localise-lenet"])
def test_plain_sgd_trains_it(name: str) -> None:
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, 64)
    x = draw.random((64, 1, 28, 28)).astype(np.float32) * 0.2
    x[y == 1, :, :14] += 0.8
    network = build(name, (1, 28, 28), 2, seed=0).blocks
    train_whole(network, x, y, Training(ClientPlan(epochs=8, batch=32, learning_rate=0.05, optimiser="sgd"), (0, 1)))
    with torch.no_grad():
        assert (network(torch.from_numpy(x)).argmax(1).numpy() == y).mean() > 0.9


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="mo-alexnet takes images"):
        build("mo-alexnet", (6, 128), 2, seed=0)
    with pytest.raises(ValueError, match="localise-lenet takes images"):
        build("localise-lenet", (6, 128), 2, seed=0)
