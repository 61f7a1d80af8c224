"""The networks that gradient inversion is tried on."""

from typing import Any

import pytest
import torch
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from wireleak.common.models import build
from wireleak.common.models.zoo.transformer import HEADS, WIDTH, Block


def test_dlgs_lenet_is_the_published_one() -> None:
    network = build("dlg-lenet", (3, 32, 32), 100, seed=0)
    # 3 to 12 to 12 to 12 channels of 5x5, then 768 to 100.
    assert [sum(p.numel() for p in block.parameters()) for block in network.blocks] == [912, 3612, 3612, 76900]
    values = torch.cat([p.flatten() for p in network.blocks.parameters()])
    assert -0.5 <= values.min() < -0.499 and 0.499 < values.max() <= 0.5
    assert network.activation_shape(3) == (12, 8, 8)
    assert build("dlg-lenet", (1, 28, 28), 10, seed=0).activation_shape(3) == (12, 7, 7)


def test_a_block_is_causal_attention_and_a_perceptron_with_residuals() -> None:
    block = Block().eval()
    states = torch.randn(2, 5, WIDTH)
    with torch.no_grad():
        projected = block.project(layer_norm(states, (WIDTH,), block.before.weight, block.before.bias))
        query, key, value = (part.reshape(2, 5, HEADS, -1).transpose(1, 2) for part in projected.split(WIDTH, dim=-1))
        attended = scaled_dot_product_attention(query, key, value, is_causal=True)
        attended = attended.transpose(1, 2).reshape(2, 5, WIDTH)
        expected = states + block.join(attended)
        expected = expected + block.perceptron(expected)
        torch.testing.assert_close(block(states), expected)


def test_padding_and_later_words_change_nothing_before() -> None:
    blocks = build("tiny-transformer", (6,), 3, seed=0).blocks.eval()
    text = torch.tensor([[5.0, 9, 9, 12, 0, 0]])
    assert torch.equal(blocks[:3](text)[:, 4:], torch.zeros(1, 2, WIDTH))
    torch.testing.assert_close(blocks(text), blocks(text[:, :4]))
    other = text.clone()
    other[0, 3] = 77
    torch.testing.assert_close(blocks[:3](text)[:, :3], blocks[:3](other)[:, :3])
    assert not torch.allclose(blocks(text), blocks(other))


@pytest.mark.parametrize(
    ("name", "shape"), [("dlg-lenet", (28,)), ("imprint28", (1, 27, 28)), ("tiny-transformer", (1, 2))]
)
def test_inputs_of_another_kind_are_refused(name: str, shape: Any) -> None:
    with pytest.raises(ValueError, match=f"model: {name} takes"):
        build(name, shape, 2, seed=0)
