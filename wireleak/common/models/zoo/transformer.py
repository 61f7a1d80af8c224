"""A small causal transformer that reads word numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wireleak.common.models.networks import register

WIDTH, HEADS, HIDDEN = 128, 4, 256
# One for each bucket of `wireleak.lab.data.text`; row 0 pads.
BUCKETS = 5000
# Longer texts cannot be told a place.
PLACES = 1024


@register("tiny-transformer")
def tiny_transformer(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Word and place embeddings, two causal self-attention blocks, and a linear head on the words' mean state.

    Texts of (length,) word numbers become length x 128 floats at cuts 1, 2 and 3. Layer norm stands before attention
    and perceptron, as in GPT-2; there is no dropout. 0 pads behind a text's last word and changes nothing.

    Raises
    ------
    ValueError
        The input is no text of 1 to 1,024 words.
    """
    if len(input_shape) != 1 or input_shape[0] > PLACES:
        raise ValueError(f"model: tiny-transformer takes texts of (length,) word numbers, not {input_shape}")
    return nn.Sequential(
        PlacedWords(input_shape[0]), Block(), Block(), nn.Sequential(WordsMean(), nn.Linear(WIDTH, classes))
    )


class PlacedWords(nn.Module):
    """Word numbers, float (n, length), to embeddings (n, length, 128) of word and place; padding becomes zeros."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.words = nn.Embedding(1 + BUCKETS, WIDTH, padding_idx=0)
        self.places = nn.Parameter(torch.randn(length, WIDTH))

    def forward(self, numbers: Tensor) -> Tensor:
        """Look each word up; numbers beyond the table fold back into it."""
        whole = numbers.long()
        found: Tensor = self.words(torch.where(whole > 0, (whole - 1) % BUCKETS + 1, 0))
        # Zeros say to the blocks behind where a text ends: no state of a real word is all zeros.
        return torch.where((whole > 0).unsqueeze(-1), found + self.places[: numbers.shape[1]], 0)


class Block(nn.Module):
    """States (n, length, 128) to states: causal self-attention and a perceptron, each behind a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.LayerNorm(WIDTH)
        self.project = nn.Linear(WIDTH, 3 * WIDTH)
        self.join = nn.Linear(WIDTH, WIDTH)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH)
        )

    def forward(self, states: Tensor) -> Tensor:
        """A word sees itself and the words before it."""
        real = (states != 0).any(-1, keepdim=True)
        n, length, _ = states.shape
        heads = self.project(self.before(states)).reshape(n, length, 3, HEADS, WIDTH // HEADS)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)
        scores = queries @ keys.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        later = torch.ones(length, length, dtype=torch.bool, device=states.device).triu(1)
        seen = scores.masked_fill(later, float("-inf")).softmax(-1) @ values
        attended = states + self.join(seen.transpose(1, 2).reshape(n, length, WIDTH))
        return torch.where(real, attended + self.perceptron(attended), 0)


class WordsMean(nn.Module):
    """States (n, length, 128) to their mean over each text's words (n, 128); zeros where there is none."""

    def forward(self, states: Tensor) -> Tensor:
        """Take the mean over states that are not padding."""
        count = (states != 0).any(-1).sum(-1, keepdim=True)
        mean: Tensor = states.sum(1) / count.clamp_min(1)
        return mean
