"""Objective "autoencoder": the encoder learns to rebuild its own input and ignores the head's gradients."""

from __future__ import annotations

import math

import torch
from torch import nn

from wireleak.common.config import ConfigError


class Autoencoder:
    """An encoder of Flatten, Linear and ReLU layers with a mirrored decoder, trained on MSE with Adam.

    The decoder's hidden layers are the encoder's in reverse, with ReLU. A sigmoid ends it, as inputs lie in [0, 1]. The
    decoder never leaves the client, and each object has a new one. An encoder that trains over several rounds therefore
    meets a new decoder in each round, and encoders of several clients are averaged although they learnt for different
    decoders. The study `latents` has one client and one round.

    Parameters
    ----------
    encoder : nn.Module
        Maps (n, *input_shape) to (n, latents); changed in place.
    input_shape : tuple of int
        One example's shape.
    learning_rate : float
        Learning rate of Adam.
    seed : int
        Seed of the decoder's initial weights.

    Raises
    ------
    ConfigError
        The encoder has another kind of layer, or no Linear layer.

    References
    ----------
    The latents post: autoencoder 784-700-500-300-32, Adam 1e-3, 100 epochs.
    """

    def __init__(
        self, encoder: nn.Module, input_shape: tuple[int, ...], learning_rate: float = 1e-3, seed: int = 0
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder = mirrored(encoder, input_shape)
        self._encoder = encoder
        self._optimiser = torch.optim.Adam([*encoder.parameters(), *self.decoder.parameters()], lr=learning_rate)

    def step(self, inputs: torch.Tensor) -> float:
        """Train on a batch (n, *input_shape); return its mean squared error per value before the step.

        Raises
        ------
        ConfigError
            An input lies outside [0, 1].
        """
        if inputs.min() < 0 or inputs.max() > 1:
            raise ConfigError('objective: an autoencoder takes inputs in [0, 1]; scale the data or set "task"')
        loss = nn.functional.mse_loss(self.decoder(self._encoder(inputs)), inputs)
        self._optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimiser.step()
        return loss.item()


def mirrored(encoder: nn.Module, input_shape: tuple[int, ...]) -> nn.Sequential:
    """Build the decoder, (n, latents) to (n, *input_shape), that mirrors an encoder's Linear layers.

    Raises
    ------
    ConfigError
        The encoder has a layer other than Flatten, Linear and ReLU, or no Linear layer.
    """
    layers = [layer for layer in encoder.modules() if not list(layer.children())]
    other = [layer for layer in layers if not isinstance(layer, nn.Flatten | nn.Linear | nn.ReLU)]
    if other or not any(isinstance(layer, nn.Linear) for layer in layers):
        fault = type(other[0]).__name__ if other else "no Linear layer"
        raise ConfigError(
            f"objective: an autoencoder mirrors Flatten, Linear and ReLU layers, and this encoder has {fault}; "
            'use the network "latents", or set objective = "task"'
        )
    sizes = [(layer.out_features, layer.in_features) for layer in reversed(layers) if isinstance(layer, nn.Linear)]
    if sizes[-1][1] != math.prod(input_shape):
        raise ConfigError(
            f"objective: this encoder takes {sizes[-1][1]} numbers and an input has {math.prod(input_shape)}; "
            "use a network for inputs of that size"
        )
    decoder: list[nn.Module] = []
    for inputs, outputs in sizes:
        decoder += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*decoder[:-1], nn.Sigmoid(), nn.Unflatten(1, input_shape))
