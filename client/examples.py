"""Read a device's own examples from the files that its config names."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from wireleak.common.config import ConfigError
from wireleak.common.models import ModelConfig

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def read_inputs(path: Path, shape: tuple[int, ...], field: str) -> Floats:
    """Read `x`, float32 of shape (n, *shape), n at least 1.

    Raises
    ------
    ConfigError
        The file does not hold this array; the message names the config's `field`.
    """
    inputs = _array(path, "x", field)
    if inputs.dtype != np.float32 or inputs.shape[1:] != shape or not len(inputs):
        wanted = ", ".join(map(str, shape))
        raise ConfigError(f"{field}: x in {path} is {inputs.dtype} {inputs.shape}; give float32 (n, {wanted}), n >= 1")
    return cast(Floats, inputs)


def read_examples(path: Path, model: ModelConfig, field: str, server_round: int | None = None) -> tuple[Floats, Labels]:
    """Read `x` and `y`, int64 of shape (n,) in [0, classes).

    Parameters
    ----------
    path : Path
    model : ModelConfig
    field : str
        Field of the config, for error messages.
    server_round : int, optional
        If the file has `round` (int64, n), the round in which each example was collected: read only this round's.

    Raises
    ------
    ConfigError
        The file does not hold these arrays; the message names the config's `field`.
    """
    inputs, labels = read_inputs(path, model.input_shape, field), _array(path, "y", field)
    if labels.dtype != np.int64 or labels.shape != (len(inputs),):
        raise ConfigError(f"{field}: y in {path} is {labels.dtype} {labels.shape}; give int64 ({len(inputs)},)")
    if labels.min() < 0 or labels.max() >= model.classes:
        raise ConfigError(
            f"{field}: y in {path} holds labels outside 0..{model.classes - 1}; give labels in that range"
        )
    if server_round is not None and "round" in _names(path):
        now = _array(path, "round", field) == server_round
        if now.shape != labels.shape or not now.any():
            raise ConfigError(
                f"{field}: {path} holds no example of round {server_round}; give examples for every round"
            )
        inputs, labels = inputs[now], labels[now]
    return inputs, cast(Labels, labels)


def read_private(
    path: Path, names: Sequence[str], field: str, server_round: int | None = None
) -> tuple[dict[str, Labels], dict[str, int]]:
    """Read private attributes `attribute:<name>`, int64 (n,), and the number of values of each, `values:<name>`.

    The rows are the same as those of `read_examples`.

    Raises
    ------
    ConfigError
        The file does not hold these arrays.
    """
    attributes = {name: _array(path, f"attribute:{name}", field) for name in names}
    counts = {name: int(_array(path, f"values:{name}", field)) for name in names}
    rows = slice(None)
    if server_round is not None and "round" in _names(path):
        rows = _array(path, "round", field) == server_round
    for name, values in attributes.items():
        if values.dtype != np.int64 or values.min() < 0 or values.max() >= counts[name]:
            raise ConfigError(f"{field}: attribute:{name} in {path} must be int64 in 0..{counts[name] - 1}")
    return {name: cast(Labels, values[rows]) for name, values in attributes.items()}, counts


# A client answers thousands of messages with the same two files. Without links, one process has those of all clients.
@lru_cache(maxsize=64)
def _read(path: Path, _written: int) -> dict[str, npt.NDArray[np.generic]]:
    with np.load(path) as archive:
        return dict(archive)


def _names(path: Path) -> list[str]:
    return list(_read(path, path.stat().st_mtime_ns))


def _array(path: Path, key: str, field: str) -> npt.NDArray[np.generic]:
    try:
        return _read(path, path.stat().st_mtime_ns)[key]
    except KeyError as error:
        raise ConfigError(f"{field}: {path} holds no array called {key}; add it") from error
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{field}: cannot read {path} as .npz: {error}") from error


def append_labels(path: Path, labels: Labels) -> None:
    """Append the labels of one batch as a JSON line, the ground truth for attacks on labels."""
    line = json.dumps({"labels": labels.tolist()})
    with path.open("a") as file:
        file.write(f"{line}\n")
