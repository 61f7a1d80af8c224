"""Networks made of blocks; a cut after block k leaves blocks 1..k on the device and the rest on the service."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from wireleak.common.registry import Registry

# Torch takes seconds to import, and a mistake in a command is answered before that.
if TYPE_CHECKING:
    from torch import nn

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
        return cast("nn.Sequential", self.blocks[:cut]), cast("nn.Sequential", self.blocks[cut:])

    def activation_shape(self, cut: int) -> tuple[int, ...]:
        """Shape of one example's activation at `cut`."""
        import torch

        encoder, _ = self.split(cut)
        # A slice is a new module, whose own mode says nothing of the blocks'.
        was_training = self.blocks.training
        encoder.eval()
        with torch.no_grad():
            shape = tuple(encoder(torch.zeros(1, *self.input_shape)).shape[1:])
        encoder.train(was_training)
        return shape


Builder = Callable[[tuple[int, ...], int], "nn.Sequential"]
_Builder = TypeVar("_Builder", bound=Builder)
NETWORKS: Registry[Builder] = Registry(
    "network",
    "wireleak.networks",
    "wireleak.common.models.zoo",
    calls=("input_shape", "classes"),
    otherwise="or MODULE:FACTORY",
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
    import torch

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
