from typing import Any

import pytest
import torch

from wireleak.common.models import Network, build
from wireleak.common.models.zoo import deep_averaging
from wireleak.lab.data.text import BUCKETS


@pytest.fixture
def network() -> Network:
    network = build("deep-averaging", (12,), 3, seed=1)
    network.blocks.eval()
    return network


def test_what_crosses_the_wire(network: Network, texts: Any) -> None:
    assert [network.activation_shape(cut) for cut in network.cuts] == [(12, 100), (deep_averaging.CODE,)]
    x = texts(5, 12, 1)
    for cut in network.cuts:
        encoder, head = network.split(cut)
        assert torch.equal(head(encoder(x)), network.blocks(x)) and head(encoder(x)).shape == (3, 3)


def test_the_mean_is_torchs_own_embedding_bag(network: Network, texts: Any) -> None:
    """Oracle: `EmbeddingBag`, which leaves padding out of the mean."""
    words = network.blocks[0]
    averaged = next(module for module in network.blocks.modules() if isinstance(module, deep_averaging.MeanWord))
    table = words.get_submodule("table")
    assert isinstance(table, torch.nn.Embedding)
    bag = torch.nn.EmbeddingBag.from_pretrained(table.weight.detach(), mode="mean", padding_idx=0)
    x = texts(12, 7, 1, 0)
    torch.testing.assert_close(averaged(words(x)), bag(x.long()))


def test_order_and_padding_change_nothing(network: Network, texts: Any) -> None:
    encoder, _ = network.split(2)
    x = texts(6)
    torch.testing.assert_close(encoder(x), encoder(x[:, :6]))
    torch.testing.assert_close(encoder(x), encoder(x[:, :6].flip(1)))
    other = x.clone()
    other[0, 5] = 1 + x[0, 5] % BUCKETS
    assert not torch.allclose(encoder(x), encoder(other))
    assert torch.isfinite(encoder(texts(0))).all()


def test_it_learns_which_words_there_are(network: Network) -> None:
    x = torch.randint(3, 300, (384, 12), generator=torch.Generator().manual_seed(0)).float()
    y = torch.arange(384) % 2
    x[torch.arange(384), torch.arange(384) % 12] = 1.0 + y
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(network.blocks.parameters(), lr=0.01)
    network.blocks.train()
    for _ in range(20):
        for rows in torch.randperm(288).split(32):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network.blocks(x[rows]), y[rows]).backward()
            optimiser.step()
    network.blocks.eval()
    assert (network.blocks(x[288:]).argmax(1) == y[288:]).float().mean() > 0.9


def test_other_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"deep-averaging takes texts of \(length,\) word numbers, not \(1, 28, 28\)"):
        build("deep-averaging", (1, 28, 28), 2, 0)
