"""Where attacks compute: the choice of the device, its random state, and work in parts that fit its memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wireleak.common.memory import BLOCK_BYTES

Rows = npt.NDArray[np.int64]


def best_device() -> torch.device:
    """Return the GPU where torch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let torch draw from `seed`; afterwards the process's own random state goes on."""
    with torch.random.fork_rng(devices=None if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def step_in_parts(
    optimiser: Any, loss_of: Callable[[Rows], Tensor], rows: Rows, parts: int, longest: float = math.inf
) -> int:
    """Take one step of an optimiser on some rows, in smaller parts if the device's memory is short.

    Parameters
    ----------
    optimiser : torch.optim.Optimizer
    loss_of : callable
        From rows to their mean loss.
    rows : int64 (n,)
    parts : int
        Parts to begin with.
    longest : float
        Norm to which a longer gradient is shortened.

    Returns
    -------
    int
        Parts that fitted.

    Raises
    ------
    torch.OutOfMemoryError
        Even one row does not fit.
    """
    while True:
        try:
            optimiser.zero_grad()
            for some in np.array_split(rows, min(parts, len(rows))):
                loss = loss_of(some)
                torch.autograd.backward(loss if parts == 1 else loss * (len(some) / len(rows)))
            if longest < math.inf:
                weights = [weight for group in optimiser.param_groups for weight in group["params"]]
                torch.nn.utils.clip_grad_norm_(weights, longest)
            optimiser.step()
            return parts
        except torch.OutOfMemoryError:
            if parts >= len(rows):
                raise
            parts *= 2
            torch.cuda.empty_cache()


def run_in_parts(network: Callable[[Any], Tensor], rows: npt.NDArray[Any], size: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield a network's outputs without gradients, `size` rows at a time, or fewer if the device's memory is short."""
    start = 0
    while start < len(rows):
        part = slice(start, min(start + size, len(rows)))
        try:
            with torch.no_grad():
                found = network(rows[part])
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = max(1, size // 2)
            torch.cuda.empty_cache()
            continue
        yield part, found
        start = part.stop


def rows_at_once(values: int, most: int = 256) -> int:
    """Return how many examples to run at once where each leaves so many float32 values in a network's layers."""
    return max(1, min(most, 2 * BLOCK_BYTES // max(1, 4 * values)))
