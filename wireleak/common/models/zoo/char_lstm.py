"""A small language model over characters: which one follows the last few."""

from __future__ import annotations

from torch import Tensor, nn

from wireleak.common.models.networks import register

EMBEDDINGS, HIDDEN = 24, 96


@register("char-lstm")
def char_lstm(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Embedding and one LSTM layer of 96 for windows of (length,) character numbers; the classes are the alphabet.

    Number 0 stands before a text begins; character c of the alphabet is number c + 1 in windows and class c behind
    them.
    """
    if len(input_shape) != 1:
        raise ValueError(f"model: char-lstm takes windows of (length,) character numbers, not {input_shape}")
    return nn.Sequential(Characters(classes), LastOutput(), nn.Linear(HIDDEN, classes))


class Characters(nn.Module):
    """Character numbers, float (n, length), to embeddings (n, length, 24)."""

    def __init__(self, alphabet: int) -> None:
        super().__init__()
        self.table = nn.Embedding(1 + alphabet, EMBEDDINGS)

    def forward(self, numbers: Tensor) -> Tensor:
        """Look each character up."""
        found: Tensor = self.table(numbers.long())
        return found


class LastOutput(nn.Module):
    """Embeddings (n, length, 24) to the LSTM's output (n, 96) behind the last character."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(EMBEDDINGS, HIDDEN, batch_first=True)

    def forward(self, embedded: Tensor) -> Tensor:
        """Read the whole window."""
        outputs, _ = self.cell(embedded)
        last: Tensor = outputs[:, -1]
        return last
