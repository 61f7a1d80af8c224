"""The head stage: weights, optimiser, and one lock for all access to them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn.functional import cross_entropy

from server.checkpoints import CheckpointError
from wireleak.common.models import ModelConfig, load_weights, save_weights
from wireleak.common.wire.service import Floats, OverflowedError


class HeadStage:
    """The blocks behind the cut, safe for many threads.

    Parameters
    ----------
    model : ModelConfig
        Network, cut and the seed of the initial weights.
    learning_rate : float
        Of Adam.

    Attributes
    ----------
    activation_shape : tuple of int
        One example's activation.
    """

    def __init__(self, model: ModelConfig, learning_rate: float) -> None:
        self.model = model
        self.learning_rate = learning_rate
        self.activation_shape = model.network().activation_shape(model.cut)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Reset to the initial weights of the model's seed."""
        _, head = self.model.network().split(self.model.cut)
        self._adopt(head)

    def load(self, path: Path) -> None:
        """Load the weights in `path`; the optimiser is reset.

        Raises
        ------
        CheckpointError
            The file does not hold this head; the weights are unchanged.
        """
        _, head = self.model.network().split(self.model.cut)
        try:
            load_weights(head, path)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise CheckpointError.of(path, self.model) from error
        self._adopt(head)

    def save(self, path: Path) -> None:
        """Write the current weights, never in the middle of a step."""
        with self._lock:
            save_weights(self.head, path)

    def predict(self, activation: Floats) -> Floats:
        """Return class probabilities, shape (batch, classes).

        Raises
        ------
        OverflowedError
            The activations are too large for finite results.
        """
        with self._lock, torch.inference_mode():
            self.head.eval()
            probabilities = self.head(torch.from_numpy(activation)).softmax(dim=1)
        if not torch.isfinite(probabilities).all():
            raise OverflowedError
        return probabilities.numpy()  # type: ignore[no-any-return]

    def step(self, activation: Floats, label: npt.NDArray[np.int64]) -> tuple[Floats, float]:
        """Take one optimiser step on one batch.

        Parameters
        ----------
        activation : array of shape (batch, *activation_shape)
            The encoder's output.
        label : array of shape (batch,)
            Class indices.

        Returns
        -------
        gradient : array of the activation's shape
            Gradient of the batch's mean cross-entropy by the activation, before the step.
        loss : float
            That cross-entropy, in nats.

        Raises
        ------
        OverflowedError
            A gradient is not finite; the step was not taken.
        """
        inputs = torch.from_numpy(activation).requires_grad_()
        with self._lock:
            self.head.train()
            self.optimiser.zero_grad(set_to_none=True)
            before = [buffer.clone() for buffer in self.head.buffers()]
            loss = cross_entropy(self.head(inputs), torch.from_numpy(label))
            loss.backward()
            gradients = [inputs.grad, *(parameter.grad for parameter in self.head.parameters())]
            # One client's huge but finite numbers would turn the shared weights, or BatchNorm's means, into NaN.
            checked = [*(each for each in gradients if each is not None), *self.head.buffers()]
            if not all(torch.isfinite(each).all() for each in checked):
                for buffer, value in zip(self.head.buffers(), before, strict=True):
                    buffer.copy_(value)
                raise OverflowedError
            self.optimiser.step()
        assert inputs.grad is not None
        return inputs.grad.numpy(), loss.item()

    def _adopt(self, head: nn.Sequential) -> None:
        optimiser = torch.optim.Adam(head.parameters(), lr=self.learning_rate)
        with self._lock:
            self.head, self.optimiser = head, optimiser
