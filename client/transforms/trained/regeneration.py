"""Small decoders on the device, from activations to pictures, windows or texts of word numbers."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from wireleak.common.config import ConfigError
from wireleak.common.models.zoo.lstm import BUCKETS, folded

EMBEDDINGS = 32
# With a larger stride or a smaller picture a deconvolution has little input, and a perceptron is as small.
LARGEST_STRIDE, LEAST_SIDE = 4, 4


class Regenerator(nn.Module):
    """A decoder of activations to inputs, with the loss of a guess without activations as a reference."""

    @abstractmethod
    def losses(self, activation: Tensor, inputs: Tensor) -> Tensor:
        """Return the loss of each example (n,) for activations (n, *activation_shape) of inputs (n, *input_shape)."""

    @abstractmethod
    def blind(self, inputs: Tensor) -> Tensor:
        """Return the loss of each example (n,) by the best constant guess from all inputs so far, these included."""


def regenerator(activation_shape: tuple[int, ...], input_shape: tuple[int, ...], width: int) -> Regenerator:
    """Return a decoder for one example's shapes: inputs of one axis are word numbers, others are values.

    A perceptron has `width` hidden units, an LSTM a quarter of that, and a deconvolution a sixteenth of that as
    channels. The three cost a device about the same.
    """
    if len(input_shape) == 1:
        return TextRegenerator(math.prod(activation_shape), width // 4)
    return ValueRegenerator(activation_shape, input_shape, width)


class ValueRegenerator(Regenerator):
    """A deconvolution between pictures if the sides fit, otherwise a perceptron; mean squared error per value."""

    def __init__(self, activation_shape: tuple[int, ...], input_shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.decoder = _deconvolution(activation_shape, input_shape, width // 16) or nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(activation_shape), width),
            nn.ReLU(),
            nn.Linear(width, math.prod(input_shape)),
            nn.Unflatten(1, input_shape),
        )
        self.register_buffer("mean", torch.zeros(input_shape))
        self.register_buffer("count", torch.zeros(()))

    def losses(self, activation: Tensor, inputs: Tensor) -> Tensor:
        """Return each example's mean squared error per value."""
        wrong: Tensor = self.decoder(activation) - inputs
        return wrong.square().flatten(1).mean(1)

    def blind(self, inputs: Tensor) -> Tensor:
        """Return each example's mean squared error of the mean input so far."""
        mean, count = self.get_buffer("mean"), self.get_buffer("count")
        count += len(inputs)
        mean += (inputs - mean).sum(0) / count
        return (inputs - mean).square().flatten(1).mean(1)


class TextRegenerator(Regenerator):
    """An LSTM that predicts a text word by word from the words before (teacher forcing); loss in nats per word.

    A linear map of the activation gives the initial cell state; in the authors' model the activation is the state.
    Word 0 is padding: it starts the text, and padding after the text is not scored.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1 + BUCKETS, EMBEDDINGS, padding_idx=0)
        self.state = nn.Sequential(nn.Flatten(), nn.Linear(features, width))
        self.cell = nn.LSTM(EMBEDDINGS, width, batch_first=True)
        self.words = nn.Linear(width, 1 + BUCKETS)
        self.register_buffer("counts", torch.zeros(1 + BUCKETS))

    def losses(self, activation: Tensor, inputs: Tensor) -> Tensor:
        """Return the mean over each text's words of -log P(word | words before, activation)."""
        words = _words(inputs)
        before = nn.functional.pad(words, (1, 0))[:, :-1]
        cell = self.state(activation).unsqueeze(0)
        states, _ = self.cell(self.embedding(before), (torch.zeros_like(cell), cell))
        said = words > 0
        # Scoring words is by far the most expensive step, so padding is skipped.
        nats = cross_entropy(self.words(states[said]), words[said], reduction="none")
        return _mean_of_texts(nats, said)

    def blind(self, inputs: Tensor) -> Tensor:
        """Return the mean over each text's words of -log of the word's share of all words so far."""
        words, counts = _words(inputs), self.get_buffer("counts")
        said = words > 0
        counts += torch.bincount(words[said], minlength=len(counts))
        return _mean_of_texts((counts.sum().log() - counts.log())[words[said]], said)


def _deconvolution(
    activation_shape: tuple[int, ...], input_shape: tuple[int, ...], channels: int
) -> nn.Sequential | None:
    if not len(activation_shape) == len(input_shape) == 3 or min(activation_shape[1:]) < LEAST_SIDE:
        return None
    strides = [round(want / have) for want, have in zip(input_shape[1:], activation_shape[1:], strict=True)]
    if not all(1 <= stride <= LARGEST_STRIDE for stride in strides):
        return None
    kernel = [stride + 2 for stride in strides]  # with padding 1, sides become stride times as long
    return nn.Sequential(
        nn.ConvTranspose2d(activation_shape[0], channels, kernel, strides, 1),  # type: ignore[arg-type]
        nn.ReLU(),
        nn.Upsample(size=input_shape[1:]),
        nn.Conv2d(channels, input_shape[0], 3, padding=1),
    )


def _words(inputs: Tensor) -> Tensor:
    """Return word numbers as the text network folds them (n, length), int64."""
    if inputs.min() < 0 or not bool((inputs == inputs.round()).all()):
        raise ConfigError(
            "transforms.adversarial-generation: inputs of one axis must be word numbers, and these are not; "
            "give them a second axis, or remove the transform"
        )
    return folded(inputs)


def _mean_of_texts(nats: Tensor, said: Tensor) -> Tensor:
    texts = torch.nonzero(said)[:, 0]
    sums = torch.zeros(len(said), dtype=nats.dtype).index_add(0, texts, nats)
    return sums / said.sum(1).clamp_min(1)
