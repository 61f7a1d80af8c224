"""The objective "autoencoder" against torch's own layers and optimiser, and the network that it is for."""

from __future__ import annotations

import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from client.autoencoder import Autoencoder, mirrored
from wireleak.common.config import ConfigError
from wireleak.common.models import build

SHAPE = (1, 4, 4)


def encoder() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5), nn.ReLU())


def test_steps_are_adam_s_on_both_halves() -> None:
    ours, twin, inputs = encoder(), encoder(), torch.rand(8, *SHAPE)
    auto = Autoencoder(ours, SHAPE, 1e-2, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        decoder = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 16), nn.Sigmoid())
    whole = nn.Sequential(twin, decoder)
    optimiser = torch.optim.Adam(whole.parameters(), 1e-2)
    for _ in range(5):
        loss = ((whole(inputs) - inputs.flatten(1)) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert auto.step(inputs) == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(dict(ours.state_dict()), dict(twin.state_dict()))


def test_it_learns_what_two_principal_axes_hold() -> None:
    """Oracle: scikit-learn's PCA with as many numbers on the wire."""
    torch.manual_seed(1)
    inputs = torch.sigmoid(torch.randn(300, 2) @ torch.randn(2, 16)).view(300, *SHAPE)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
    auto = Autoencoder(module, SHAPE, 1e-2)
    losses = [auto.step(inputs) for _ in range(600)]
    flat = inputs.flatten(1).numpy()
    pca = PCA(2).fit(flat)
    assert losses[-1] < ((pca.inverse_transform(pca.transform(flat)) - flat) ** 2).mean() < losses[0]


def test_the_post_s_network_sends_32_latents_and_mirrors() -> None:
    network = build("latents", (1, 28, 28), 10, 0)
    assert network.activation_shape(4) == (32,)
    front, head = network.split(4)
    sizes = [tuple(p.shape) for p in mirrored(front, (1, 28, 28)).parameters() if p.dim() == 2]
    assert sizes == [(300, 32), (500, 300), (700, 500), (784, 700)]
    assert [p.shape[0] for p in head.parameters() if p.dim() == 2] == [600, 500, 300, 100, 10]
    assert isinstance(list(head.modules())[-1], nn.Linear)
    assert mirrored(front, (1, 28, 28))(front(torch.rand(3, 1, 28, 28))).shape == (3, 1, 28, 28)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), "this encoder has Conv2d"),
        (nn.Sequential(nn.Flatten()), "no Linear layer"),
        (nn.Sequential(nn.Flatten(), nn.Linear(9, 3)), "takes 9 numbers and an input has 16"),
    ],
)
def test_an_encoder_that_cannot_be_mirrored_is_named(module: nn.Module, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^objective: .*{words}"):
        Autoencoder(module, SHAPE)


def test_inputs_outside_the_sigmoid_s_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"objective: an autoencoder takes inputs in \[0, 1\]"):
        Autoencoder(encoder(), SHAPE).step(torch.full((2, *SHAPE), 1.5))
