"""Your own network, to audit with `wireleak audit examples/audit_model.py:make --data digits`."""

import torch
from torch import nn


class Residual(nn.Module):
    """Two convolutions with a skip connection, so the network cannot be cut inside: two tensors would cross."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class Net(nn.Module):
    """A small residual network for images."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, 1, 1)
        self.stages = nn.ModuleList([Residual(8, 16, 2), Residual(16, 32, 2), Residual(32, 64, 2)])
        self.head = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (n, channels, height, width) to class scores (n, classes)."""
        x = torch.relu(self.stem(x))
        for stage in self.stages:
            x = stage(x)
        x = x.mean(dim=(2, 3))
        return self.head(torch.dropout(x, 0.1, self.training))


def make(classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Build the network for some data. wireleak passes a factory the values that its parameters name."""
    return Net(input_shape[0], classes)


class Text(nn.Module):
    """A transformer from torch.nn over word numbers; 0 is padding."""

    def __init__(self, classes: int, length: int) -> None:
        super().__init__()
        # One row for each word number of wireleak.lab.data.text.
        self.words = nn.Embedding(5001, 32, padding_idx=0)
        self.places = nn.Parameter(torch.zeros(length, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map word numbers, int64 (n, length), to class scores (n, classes)."""
        return self.head(self.encoder(self.words(tokens) + self.places).mean(dim=1))


def make_text(classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Build the text network, for `--data texts.csv --task COLUMN`."""
    return Text(classes, input_shape[0])
