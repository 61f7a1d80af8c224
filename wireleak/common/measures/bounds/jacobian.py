"""Jacobians of an encoder, example by example, with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    # (n, *input_shape) to (n, *activation_shape); one example must not influence another's row.
    Map = Callable[[Tensor], Tensor]

CELLS = 8_000_000  # of one block of Jacobians: 32 MB


def jacobians(encoder: Map, inputs: Tensor) -> Tensor:
    """Return the Jacobian of each example's activation by its input, float (n, activation values, input values)."""
    import torch

    return torch.cat(list(jacobian_blocks(encoder, inputs)), dim=1)


def jacobian_blocks(encoder: Map, inputs: Tensor) -> Iterator[Tensor]:
    """Yield the Jacobians' rows, a bounded number of activation values at a time: (n, some, input values)."""
    import torch

    outputs, pull = pullback(encoder, inputs)
    count = outputs[0].numel()
    block = max(1, CELLS // inputs.numel())
    for start in range(0, count, block):
        rows = []
        for unit in range(start, min(start + block, count)):
            # One backward pass gives this activation value's gradient for every example at once.
            chosen = torch.zeros_like(outputs).flatten(1)
            chosen[:, unit] = 1
            rows.append(pull(chosen.reshape(outputs.shape))[0].detach().flatten(1))
        yield torch.stack(rows, dim=1)


def pullback(encoder: Map, inputs: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor]]]:
    """Return the activations, and a function from a gradient by them to a gradient by the inputs."""
    import torch

    pair: Any = torch.func.vjp(encoder, inputs)
    return pair[0], pair[1]
