"""An LSTM that reads word numbers: the text encoder whose last state crosses the wire."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wireleak.common.models.networks import register

EMBEDDINGS, HIDDEN, HEAD = 100, 128, 300
# Small first embeddings move within one epoch of some thousand texts; a forget gate that starts open remembers a whole
# text (Jozefowicz et al., "An Empirical Exploration of Recurrent Network Architectures", ICML 2015).
SPREAD, FORGET_BIAS = 0.3, 2.0
# One for each bucket of `wireleak.lab.data.text`; row 0 pads.
BUCKETS = 5000
DROPOUT = 0.2
# Of whole words in training: texts are few and words many.
WORD_DROPOUT = 0.3


@register("lstm")
def lstm(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Embedding, LSTM and perceptron for texts of (length,) word numbers: length x 100 and 128 floats at cuts 1 and 2.

    One unidirectional layer whose last state is the code, and a perceptron of one hidden layer of 300 tanh units with
    dropout 0.2, as in Elazar and Goldberg, "Adversarial Removal of Demographic Attributes from Text Data", EMNLP 2018.
    Their embeddings and state have 300 numbers, for 166,000 texts; these suit some thousands.
    """
    if len(input_shape) != 1:
        raise ValueError(f"model: lstm takes texts of (length,) word numbers, not {input_shape}")
    head = (nn.Dropout(DROPOUT), nn.Linear(HIDDEN, HEAD), nn.Tanh(), nn.Dropout(DROPOUT), nn.Linear(HEAD, classes))
    return nn.Sequential(Words(), nn.Sequential(nn.Dropout1d(WORD_DROPOUT), LastState()), nn.Sequential(*head))


class Words(nn.Module):
    """Word numbers, float (n, length), to embeddings (n, length, 100); 0 pads and becomes zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1 + BUCKETS, EMBEDDINGS, padding_idx=0)
        with torch.no_grad():
            self.table.weight.mul_(SPREAD)

    def forward(self, numbers: Tensor) -> Tensor:
        """Look each word up; numbers beyond the table fold back into it."""
        found: Tensor = self.table(folded(numbers))
        return found


def folded(numbers: Tensor) -> Tensor:
    """Word numbers as int64, those beyond the table folded back into it."""
    whole = numbers.long()
    return torch.where(whole > 0, (whole - 1) % BUCKETS + 1, 0)


class LastState(nn.Module):
    """Embeddings (n, length, 100) to the LSTM's state (n, 128) after each text's last word, whatever pads it behind."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(EMBEDDINGS, HIDDEN, batch_first=True)
        # torch stacks the gates as input, forget, cell, output.
        with torch.no_grad():
            self.cell.get_parameter("bias_ih_l0")[HIDDEN : 2 * HIDDEN] = FORGET_BIAS

    def forward(self, embedded: Tensor) -> Tensor:
        """Keep the state after the last embedding that is not zero; of a text without words, the first."""
        states, _ = self.cell(embedded)
        steps = torch.arange(embedded.shape[1], device=embedded.device)
        last = torch.where((embedded != 0).any(2), steps, 0).amax(1)
        # Gathered, not indexed by two lists: ONNX has no such indexing for a batch of any size.
        chosen: Tensor = states.gather(1, last.view(-1, 1, 1).expand(-1, 1, HIDDEN)).squeeze(1)
        return chosen
