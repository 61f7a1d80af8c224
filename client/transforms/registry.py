"""Transforms by name: ours, and those of installed packages through the entry point group "wireleak.transforms"."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar, cast

import torch
from pydantic import BaseModel

from client.config import TransformConfig
from client.encoder import Send
from wireleak.config import ConfigError, options_of

GROUP = "wireleak.transforms"
_OURS = ("noise", "requantise", "covert")


class Transform(ABC):
    """What is done to one batch of activations before it is sent.

    Attributes
    ----------
    name : str
        Registry name.
    options : type of pydantic.BaseModel
        Its settings.
    reads_inputs : bool
        Whether what it sends depends on the inputs beside the activation; what was guaranteed before it is then void.
    """

    name: ClassVar[str]
    options: ClassVar[type[BaseModel]]
    reads_inputs: ClassVar[bool] = False

    def __init__(self, settings: Any, seed: int) -> None:
        self.settings = settings
        self.seed = seed

    @abstractmethod
    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return what is sent, of the activation's shape (n, *activation_shape); inputs are (n, *input_shape)."""

    def guarantee(self, messages: int) -> str | None:
        """Say what holds for every attacker after `messages` messages about one input; None: nothing does."""
        return None

    def refusal(self) -> str | None:
        """Say why there is no guarantee, where a reader would expect one."""
        return None


_registered: dict[str, type[Transform]] = {}


def register(transform: type[Transform]) -> type[Transform]:
    """Class decorator: make `transform` known under its name."""
    _registered[transform.name] = transform
    return transform


def transforms() -> dict[str, type[Transform]]:
    """Every transform by name."""
    for module in _OURS:
        import_module(f"client.transforms.{module}")
    for point in entry_points(group=GROUP):
        register(point.load())
    return dict(sorted(_registered.items()))


def make(config: TransformConfig, seed: int) -> Transform:
    """Make one transform.

    Raises
    ------
    ConfigError
        There is none of that name, or an option is wrong.
    """
    known = transforms()
    if config.name not in known:
        raise ConfigError(f"transforms: no transform called {config.name!r}; choose from {', '.join(known) or 'none'}")
    kind = known[config.name]
    return kind(options_of(kind.options, config.options, f"transforms.{config.name}"), seed)


def guarantees(steps: Sequence[Transform], messages: int) -> list[str | None]:
    """What each step of a chain guarantees: processing keeps a guarantee, unless it looks at the inputs again."""
    return [
        None if any(later.reads_inputs for later in steps[place + 1 :]) else step.guarantee(messages)
        for place, step in enumerate(steps)
    ]


def straight_through(activation: torch.Tensor, sent: torch.Tensor) -> torch.Tensor:
    """`sent` to the last bit, with the gradient of `activation`.

    Bengio, Léonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
    """
    return cast(torch.Tensor, _StraightThrough.apply(activation, sent))  # type: ignore[no-untyped-call]


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: torch.Tensor, sent: torch.Tensor) -> torch.Tensor:
        return sent

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


def chain(configs: Sequence[TransformConfig], seed: int) -> Send:
    """Make the transforms and apply them in their order."""
    steps = [make(config, seed) for config in configs]

    def send(activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        for step in steps:
            activation = step(activation, inputs)
        return activation

    return send
