"""A deep averaging network: texts as the mean of their words, the order of which it never learns."""

from __future__ import annotations

from torch import Tensor, nn

from wireleak.common.models.networks import register
from wireleak.common.models.zoo.lstm import DROPOUT, EMBEDDINGS, HEAD, WORD_DROPOUT, Words

CODE = 64


@register("deep-averaging")
def deep_averaging(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Mean of embeddings and perceptron for texts of (length,) word numbers: length x 100 and 64 floats at cuts 1, 2.

    Whole words are dropped in training, and a hidden layer stands before the cut and one behind, as in Iyyer,
    Manjunatha, Boyd-Graber, Daumé III, "Deep Unordered Composition Rivals Syntactic Methods for Text Classification",
    ACL 2015; their embeddings are pretrained and have 300 numbers.
    """
    if len(input_shape) != 1:
        raise ValueError(f"model: deep-averaging takes texts of (length,) word numbers, not {input_shape}")
    mean = nn.Sequential(nn.Dropout1d(WORD_DROPOUT), MeanWord(), nn.Linear(EMBEDDINGS, CODE), nn.Tanh())
    head = (nn.Dropout(DROPOUT), nn.Linear(CODE, HEAD), nn.Tanh(), nn.Dropout(DROPOUT), nn.Linear(HEAD, classes))
    return nn.Sequential(Words(), mean, nn.Sequential(*head))


class MeanWord(nn.Module):
    """Embeddings (n, length, width) to their mean (n, width) over the words that are not zero; zeros where all are."""

    def forward(self, embedded: Tensor) -> Tensor:
        """Average what is neither padding nor dropped."""
        words = (embedded != 0).any(2).sum(1, keepdim=True)
        found: Tensor = embedded.sum(1) / words.clamp(min=1)
        return found
