from typing import Any

import pytest
import torch

from wireleak.lab.data.text import BUCKETS


@pytest.fixture
def texts() -> Any:
    """Makes texts of such lengths: word numbers (n, 12), 0 behind the last."""

    def make(*lengths: Any) -> torch.Tensor:
        x = torch.zeros(len(lengths), 12)
        for row, length in enumerate(lengths):
            x[row, :length] = torch.randint(1, BUCKETS + 1, (length,))
        return x

    return make
