from typing import Any

import numpy as np
import pytest
import torch

from wireleak.common.models import Network, build
from wireleak.common.models.zoo import lstm
from wireleak.lab.data.text import BUCKETS


@pytest.fixture
def network() -> Network:
    network = build("lstm", (12,), 3, seed=1)
    network.blocks.eval()
    return network


def test_what_crosses_the_wire(network: Network, texts: Any) -> None:
    assert [network.activation_shape(cut) for cut in network.cuts] == [(12, lstm.EMBEDDINGS), (lstm.HIDDEN,)]
    x = texts(5, 12, 1)
    for cut in network.cuts:
        encoder, head = network.split(cut)
        assert torch.equal(head(encoder(x)), network.blocks(x)) and head(encoder(x)).shape == (3, 3)


def test_every_bucket_of_the_data_has_its_embedding() -> None:
    assert lstm.BUCKETS == BUCKETS
    table = lstm.Words().table.weight
    assert len(table) == BUCKETS + 1 and not table[0].any() and (table[1:] != 0).any(1).all()


def test_the_code_is_torchs_own_last_state_of_each_text(network: Network, texts: Any) -> None:
    """Oracle: packed sequences, which never read the padding."""
    lengths = [12, 7, 1]
    x = texts(*lengths)
    words, recurrent = network.blocks[0], network.blocks[1]
    cell = next(module for module in recurrent.modules() if isinstance(module, torch.nn.LSTM))
    packed = torch.nn.utils.rnn.pack_padded_sequence(words(x), lengths, batch_first=True)
    _, (state, _) = cell(packed)
    torch.testing.assert_close(recurrent(words(x)), state[0])


def test_padding_changes_nothing_and_the_last_word_something(network: Network, texts: Any) -> None:
    encoder, _ = network.split(2)
    x = texts(6)
    torch.testing.assert_close(encoder(x), encoder(x[:, :6]))
    other = x.clone()
    other[0, 5] = 1 + x[0, 5] % BUCKETS
    assert not torch.allclose(encoder(x), encoder(other))
    assert torch.isfinite(encoder(texts(0))).all()


def test_padding_stays_zero_in_training(network: Network, texts: Any) -> None:
    network.blocks.train()
    optimiser = torch.optim.Adam(network.blocks.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(network.blocks(texts(3, 4)), torch.tensor([0, 1])).backward()
    optimiser.step()
    table = network.blocks.get_submodule("0.table")
    assert isinstance(table, torch.nn.Embedding) and not table.weight[0].any()


def test_it_learns_word_order(network: Network) -> None:
    """Whether word 1 comes before word 2: no bag of words can tell."""
    rng = np.random.default_rng(0)
    words = rng.integers(3, 30, (384, 6)).astype(np.float32)
    places = np.array([rng.choice(6, 2, replace=False) for _ in words])
    words[np.arange(384)[:, None], places] = [1, 2]
    x, y = torch.from_numpy(words), torch.from_numpy((places[:, 0] < places[:, 1]).astype(np.int64))
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(network.blocks.parameters(), lr=4e-3)
    network.blocks.train()
    for _ in range(12):
        for rows in torch.randperm(288).split(32):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network.blocks(x[rows]), y[rows]).backward()
            optimiser.step()
    network.blocks.eval()
    assert (network.blocks(x[288:]).argmax(1) == y[288:]).float().mean() > 0.9


def test_other_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lstm takes texts of \(length,\) word numbers, not \(1, 28, 28\)"):
        build("lstm", (1, 28, 28), 2, 0)
