import numpy as np
import pytest
import torch

from wireleak.common.models import Network, build


@pytest.fixture(scope="module")
def network() -> Network:
    return build("lenet", (1, 28, 28), 10, seed=0)


def test_it_sends_what_he_et_al_send_at_both_cuts(network: Network) -> None:
    assert [network.activation_shape(cut) for cut in network.cuts] == [(8, 24, 24), (16, 8, 8), (120,), (84,)]
    # Floats sent for each of the input's 784 pixels.
    ratios = [np.prod(network.activation_shape(cut)) / 784 for cut in (1, 2)]
    assert ratios == pytest.approx([5.88, 1.31], abs=0.005)


def test_conv1_is_sent_before_its_relu_and_relu2_after(network: Network) -> None:
    x = torch.rand(8, 1, 28, 28)
    first, second = (network.split(cut)[0](x) for cut in (1, 2))
    assert first.min() < 0 and second.min() == 0
    # conv1 is affine: what the white box needs to be exact.
    halves = network.split(1)[0](x / 2) * 2 - network.split(1)[0](torch.zeros_like(x))
    torch.testing.assert_close(halves, first, atol=1e-5, rtol=1e-4)


def test_its_parameters_are_lenets(network: Network) -> None:
    counts = (8 * 25 + 8, 16 * 8 * 25 + 16, 120 * 256 + 120, 84 * 120 + 84, 10 * 84 + 10)
    assert [sum(p.numel() for p in block.parameters()) for block in network.blocks] == list(counts)


def test_an_input_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lenet takes inputs of \(channels, 28, 28\)"):
        build("lenet", (1, 32, 32), 10, seed=0)
