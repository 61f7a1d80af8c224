"""Trained weights from a user's file, matched with a network by name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

# Names under which training scripts store the state dict, next to an optimiser's state.
_NESTED = ("state_dict", "model_state_dict", "model", "net")
# Data-parallel wrappers put this before every name.
_WRAPPER = "module."


class WeightsError(ValueError):
    """A file does not hold a network's weights: one line that names the key and the nearest one."""


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors, or from torch's format without running code from the file.

    Raises
    ------
    WeightsError
        The file is missing, is neither format, or holds anything but tensors by name.
    """
    if not path.is_file():
        raise WeightsError(f"weights: no file {path}; give a .safetensors file or a torch state dict")
    try:
        stored: Any = load_file(path)
    except SafetensorError:
        stored = _read_torch(path)
    for name in _NESTED:
        if isinstance(stored, Mapping) and isinstance(stored.get(name), Mapping):
            stored = stored[name]
    if not isinstance(stored, Mapping) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise WeightsError(f"weights: {path} is not a state dict; save it with torch.save(model.state_dict(), path)")
    state = {str(name): value for name, value in stored.items()}
    wrapped = bool(state) and all(name.startswith(_WRAPPER) for name in state)
    return {name.removeprefix(_WRAPPER): value for name, value in state.items()} if wrapped else state


def load_pretrained(model: nn.Module, path: Path, classes: int) -> tuple[str, ...]:
    """Load a file's weights into a network.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    path : Path
        A safetensors file or a torch state dict, with the network's own names.
    classes : int
        Classes of the task. A tensor of the last layer that was trained for another number of classes is left out.

    Returns
    -------
    tuple of str
        Names of the tensors that were left out and keep their initial values.

    Raises
    ------
    WeightsError
        A name or shape differs.
    """
    state, own = read_state(path), model.state_dict()
    counters = {name for name, value in own.items() if not value.is_floating_point() and not value.dim()}
    for name in own:
        if name not in state and name not in counters:
            raise WeightsError(f"weights: {path} lacks {name!r}{_nearest(name, set(state) - set(own), 'it has')}")
    for name in state:
        if name not in own:
            near = _nearest(name, set(own), "the network has")
            raise WeightsError(f"weights: the network has no {name!r}, which {path} holds{near}")
    left_out = tuple(name for name in own if name in state and _for_other_classes(state[name], own[name], classes))
    for name, value in state.items():
        if name not in left_out and value.shape != own[name].shape:
            raise WeightsError(
                f"weights: {name!r} of {path} has shape {tuple(value.shape)}, the network's is "
                f"{tuple(own[name].shape)}; give the weights of this network"
            )
    with torch.no_grad():
        model.load_state_dict({name: own[name] if name in left_out else state.get(name, own[name]) for name in own})
    return left_out


def _for_other_classes(stored: Tensor, own: Tensor, classes: int) -> bool:
    """Whether two tensors differ only in a first axis that counts classes."""
    same = stored.dim() == own.dim() > 0 and stored.shape[1:] == own.shape[1:]
    return same and own.shape[0] == classes != stored.shape[0]


def _nearest(name: str, known: set[str], whose: str) -> str:
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"; the nearest name {whose} is {near[0]!r}" if near else "; give the weights of this network"


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a file's pickle protocol
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch errors; a file may hold anything
        reason = " ".join(str(error).split()).partition(". ")[0][:160]
        raise WeightsError(
            f"weights: {path} is neither safetensors nor a torch state dict ({reason}); save model.state_dict()"
        ) from error
