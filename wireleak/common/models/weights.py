"""Weights on disk: safetensors, written completely or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from wireleak.common.files import write_atomically

if TYPE_CHECKING:
    from torch import nn


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's state to `path`, atomically."""
    save_arrays({name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}, path)


def load_weights(module: nn.Module, path: Path) -> None:
    """Read a module's state from `path`.

    Raises
    ------
    RuntimeError
        Names or shapes differ from the module's.
    """
    import torch

    module.load_state_dict({name: torch.from_numpy(value) for name, value in load_arrays(path).items()})


def save_arrays(arrays: dict[str, npt.NDArray[np.generic]], path: Path) -> None:
    """Write named arrays to `path` as safetensors, atomically."""
    write_atomically(path, save({name: np.asarray(value, order="C") for name, value in arrays.items()}))


def load_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Read named arrays from a safetensors file."""
    return load_file(path)
