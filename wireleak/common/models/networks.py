"""Networks made of blocks; a cut after block k leaves blocks 1..k on the device and the rest on the service."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import nn

from wireleak.common.registry import Registry

# Torch's generator belongs to the process: of two threads that build at once, one would get the other's draws.
_DRAWING = threading.RLock()


@dataclass(frozen=True)
class Network:
    """A network as a sequence of blocks.

    Parameters
    ----------
    name : str
        Registry name.
    blocks : nn.Sequential
        The device may hold any proper prefix of it.
    input_shape : tuple of int
        One example's shape, channels first.
    classes : int
        Length of the output.
    whole : nn.Module
        The same network as its author wrote it, with the same weights under the author's names.
    """

    name: str
    blocks: nn.Sequential
    input_shape: tuple[int, ...]
    classes: int
    whole: nn.Module

    @property
    def cuts(self) -> range:
        """The cuts that leave something on both sides."""
        return range(1, len(self.blocks))

    def split(self, cut: int) -> tuple[nn.Sequential, nn.Sequential]:
        """Encoder and head at `cut`, sharing this network's parameters.

        Raises
        ------
        ValueError
            There is no such cut.
        """
        if cut not in self.cuts:
            raise ValueError(f"cut: {self.name} has no cut {cut}; choose {self.cuts.start} to {self.cuts.stop - 1}")
        # Slices keep the blocks' names, so that encoder, head and whole network share one set of array names.
        return cast(nn.Sequential, self.blocks[:cut]), cast(nn.Sequential, self.blocks[cut:])

    def activation_shape(self, cut: int) -> tuple[int, ...]:
        """Shape of one example's activation at `cut`."""
        encoder, _ = self.split(cut)
        # A slice is a new module, whose own mode says nothing of the blocks'.
        was_training = self.blocks.training
        encoder.eval()
        with torch.no_grad():
            shape = tuple(encoder(torch.zeros(1, *self.input_shape)).shape[1:])
        encoder.train(was_training)
        return shape


Builder = Callable[[tuple[int, ...], int], nn.Sequential]
_Builder = TypeVar("_Builder", bound=Builder)
NETWORKS: Registry[Builder] = Registry(
    "network", "wireleak.networks", "wireleak.common.models.zoo", otherwise="or MODULE:FACTORY"
)


def register(name: str) -> Callable[[_Builder], _Builder]:
    """Register a builder (input_shape, classes) -> blocks under `name`."""

    def add(builder: _Builder) -> _Builder:
        NETWORKS.add(name, builder, builder)
        return builder

    return add


def names() -> list[str]:
    """Return the names of the registered networks."""
    return list(NETWORKS.all())


def build(
    name: str, input_shape: tuple[int, ...], classes: int, seed: int, weights: Path | str | None = None
) -> Network:
    """Build a registered network, or a user's own by "module:factory", with weights drawn from `seed` or from a file.

    Raises
    ------
    ValueError
        Unknown name, an input that the network does not take, a user's network that cannot be built or cut, or
        weights that do not fit.
    """
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if ":" in name:
            # Imported here: a user's own network needs torch.fx, ours do not.
            from wireleak.common.models.factory import build_blocks

            whole, blocks = build_blocks(name, input_shape, classes)
        else:
            whole = blocks = NETWORKS.get(name, "model")(input_shape, classes)
    if weights is not None:
        from wireleak.common.models.pretrained import load_pretrained

        load_pretrained(whole, Path(weights), classes)
    return Network(name, blocks, input_shape, classes, whole)


@register("strided28")
def strided28(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Four strided convolutions for one 28x28 channel: 3136, 1568, 512 and 32 floats at cuts 1 to 4."""
    if input_shape != (1, 28, 28):
        raise ValueError(f"model: strided28 takes inputs of (1, 28, 28), not {input_shape}")
    return nn.Sequential(
        _convolution(1, 16, 5, stride=2, padding=2),
        _convolution(16, 32, 3, stride=2, padding=1),
        _convolution(32, 32, 3, stride=2, padding=1),
        _convolution(32, 32, 4),
        _dense_head(32, classes),
    )


@register("strided32")
def strided32(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Four strided convolutions for 32x32 images: 4096, 2048, 1024 and 64 floats at cuts 1 to 4."""
    if len(input_shape) != 3 or input_shape[1:] != (32, 32):
        raise ValueError(f"model: strided32 takes inputs of (channels, 32, 32), not {input_shape}")
    return nn.Sequential(
        _convolution(input_shape[0], 16, 5, stride=2, padding=2),
        _convolution(16, 32, 3, stride=2, padding=1),
        _convolution(32, 64, 3, stride=2, padding=1),
        _convolution(64, 64, 4),
        _dense_head(64, classes),
    )


@register("conv1d")
def conv1d(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Strided convolutions over time for sensor windows (channels, length)."""
    if len(input_shape) != 2:
        raise ValueError(f"model: conv1d takes inputs of (channels, length), not {input_shape}")

    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv1d(inputs, outputs, 5, stride=2, padding=2), nn.GroupNorm(8, outputs), nn.ReLU())

    return nn.Sequential(
        block(input_shape[0], 32),
        block(32, 32),
        block(32, 64),
        nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten()),
        _dense_head(64, classes),
    )


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    # GroupNorm, not BatchNorm: no running statistics to average between clients, and one example
    # never influences another's activation, which every attack and guarantee here relies on.
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.GroupNorm(8, outputs), nn.ReLU())


def _dense_head(features: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, classes))
