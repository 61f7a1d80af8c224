"""The features of a network: the inputs of its last linear layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


def last_linear(blocks: nn.Sequential) -> nn.Linear | None:
    """Return the network's last linear layer; None without one."""
    from torch import nn

    linear = [module for module in blocks.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


@contextmanager
def collected_features(last: nn.Linear) -> Iterator[list[torch.Tensor]]:
    """Collect the inputs of a layer, one tensor for each pass through the network inside the context."""
    inputs: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    try:
        yield inputs
    finally:
        hook.remove()
