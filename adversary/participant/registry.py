"""The registry of training strategies of a malicious participant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel
from torch import nn

from adversary.participant.config import ParticipantConfig
from wireleak.common.config import ConfigError, NoOptions, Plugin, options_of
from wireleak.common.head.encoder import train_split
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import Mode
from wireleak.common.registry import Registry
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Strategy(ABC):
    """One way to train. A subclass declares its name and options, and is found by name once it is registered.

    Attributes
    ----------
    name : str
        Registry name.
    modes : tuple of str
        Modes of training in which it can run.
    options : type of pydantic.BaseModel
        Model of its settings.
    settings : pydantic.BaseModel
        The settings in this run.
    config : ParticipantConfig
        The participant's config: seed, files, and `out`, the folder for state between rounds.
    """

    name: ClassVar[str]
    modes: ClassVar[tuple[Mode, ...]] = ("federated",)
    options: ClassVar[type[BaseModel]] = NoOptions

    def __init__(self, settings: Any, config: ParticipantConfig) -> None:
        self.settings = settings
        self.config = config

    @abstractmethod
    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Change the network's weights from the round's global model to the weights that are sent back.

        Parameters
        ----------
        network : Network
            The network; its blocks hold the global model.
        inputs, labels : arrays of shapes (n, *input_shape) and (n,)
            The participant's own examples of this round.
        how : Training
            The training of an honest client; `how.seed` ends with the round's number.

        Returns
        -------
        float
            The loss that the participant reports to the server, in nats.
        """


class Poisoning(Strategy):
    """A strategy that trains as an honest client does, on examples of its own choice, in both modes.

    In split mode it streams their activations and labels to the head, and trains the encoder with the gradients that it
    gets back.
    """

    modes = ("federated", "split")

    @abstractmethod
    def examples(self, inputs: Floats, labels: Labels, how: Training) -> tuple[Floats, Labels]:
        """Return the examples to train on: as many, of the same shapes; parameters as for `train`."""

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train the whole network on the chosen examples."""
        return train_whole(network.blocks, *self.examples(inputs, labels, how), how)

    def train_split(
        self, encoder: nn.Module, stub: SplitHeadStub, inputs: Floats, labels: Labels, how: Training
    ) -> float:
        """Train the encoder against the head behind `stub` on the chosen examples; return the mean loss, in nats."""
        return train_split(encoder, stub, *self.examples(inputs, labels, how), how)


def register(strategy: type[Strategy]) -> type[Strategy]:
    """Register a class of strategies under its name (class decorator)."""
    if not issubclass(strategy, Strategy):
        raise ConfigError(
            f"participant: {strategy.__qualname__} is no {Strategy.__module__}.Strategy; make it a subclass"
        )
    PARTICIPANTS.add(strategy.name, strategy, strategy)
    return strategy


PARTICIPANTS: Registry[type[Strategy]] = Registry(
    "strategy",
    "wireleak.participants",
    "adversary.participant.strategies",
    error=ConfigError,
    adopt=register,
    needs=("options",),
)


def settings(chosen: Plugin, mode: Mode) -> BaseModel:
    """Return the settings of the strategy that a config names, for a mode of training.

    Raises
    ------
    ConfigError
        The name is unknown, the strategy does not run in this mode, or an option is wrong.
    """
    strategy = PARTICIPANTS.get(chosen.name, "strategy.name")
    if mode not in strategy.modes:
        able = ", ".join(name for name, other in PARTICIPANTS.all().items() if mode in other.modes)
        raise ConfigError(f"strategy.name: {chosen.name} does not run in {mode} mode; choose one of {able}")
    return options_of(strategy.options, chosen.options, "strategy.options")


def make(config: ParticipantConfig) -> Strategy:
    """Make the strategy that a config names; errors as for `settings`."""
    chosen = settings(config.strategy, config.plan.mode)
    return PARTICIPANTS.get(config.strategy.name)(chosen, config)


def read_arrays(path: Path | None, field: str, names: tuple[str, ...]) -> list[npt.NDArray[Any]]:
    """Read arrays of one length, at least 1, from the .npz file that the config's `field` names.

    Raises
    ------
    ConfigError
        No file is named, it cannot be read, an array is missing or empty, or lengths differ.
    """
    if path is None:
        raise ConfigError(f"{field}: this strategy needs a file; name an .npz file with {', '.join(names)}")
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return list(_read_arrays(path, changed, field, names))


def read_surrogate(config: ParticipantConfig, attribute: str) -> tuple[Floats, Labels]:
    """Read the surrogate inputs, of the network's shape, and their values of an attribute, whole numbers from 0.

    Raises
    ------
    ConfigError
        As for `read_arrays`, or the arrays are of another shape or kind.
    """
    inputs, values = read_arrays(config.surrogate, "surrogate", ("x", f"attribute:{attribute}"))
    if values.dtype.kind not in "iu" or values.min() < 0 or inputs.shape[1:] != config.model.input_shape:
        wanted = f"x (n, {', '.join(map(str, config.model.input_shape))}) and whole numbers from 0"
        raise ConfigError(f"surrogate: {config.surrogate} holds x {inputs.shape}, {values.dtype}; give {wanted}")
    return inputs.astype(np.float32), values.astype(np.int64)


@lru_cache(maxsize=4)
def _read_arrays(path: Path, _changed: int, field: str, names: tuple[str, ...]) -> tuple[npt.NDArray[Any], ...]:
    """Read the arrays once for all rounds, because a stream of thousands of rounds is large."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if missing := [name for name in names if name not in stored.files]:
                raise ConfigError(f"{field}: {path} holds no array {missing[0]!r}; it has {', '.join(stored.files)}")
            arrays = [stored[name] for name in names]
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{field}: cannot read {path} as .npz: {error}") from None
    if not len(arrays[0]) or len({len(array) for array in arrays}) > 1:
        raise ConfigError(
            f"{field}: arrays in {path} have shapes {[array.shape for array in arrays]}; give as many rows in each"
        )
    return tuple(arrays)


@register
class Honest(Poisoning):
    """Train as an honest client does."""

    name = "honest"

    def examples(self, inputs: Floats, labels: Labels, how: Training) -> tuple[Floats, Labels]:
        """Return the participant's own examples."""
        return inputs, labels
