"""Transforms by name: ours, and those of installed packages through the entry point group "wireleak.transforms".

A transform is what a device does to its activations, while it trains and before it sends them: a defence, or malicious
code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import torch
from pydantic import BaseModel
from torch import nn

from wireleak.common.config import ConfigError, Plugin, options_of
from wireleak.common.registry import Registry


class Changes(NamedTuple):
    """What a transform changes, a short sentence each."""

    device: str
    wire: str = "nothing"
    server: str = "nothing"


@dataclass(frozen=True)
class Scene:
    """What a transform is told before training.

    Parameters
    ----------
    input_shape, activation_shape : tuple of int
        Of one example.
    values : mapping of str to int
        How many values each private attribute has that it asked for.
    learning_rate : float
        The encoder's.
    """

    input_shape: tuple[int, ...]
    activation_shape: tuple[int, ...]
    values: Mapping[str, int]
    learning_rate: float


@dataclass(frozen=True)
class Batch:
    """One training batch.

    Parameters
    ----------
    inputs : Tensor (n, *input_shape)
    labels : LongTensor (n,)
        Of the task.
    private : mapping of str to LongTensor (n,)
        The attributes that it asked for.
    progress : float
        How far training is, over all rounds, in [0, 1).
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    private: Mapping[str, torch.Tensor]
    progress: float


class Transform:
    """What is done to one batch of activations.

    Attributes
    ----------
    name : str
        Registry name.
    options : type of pydantic.BaseModel
        Its settings.
    changes : Changes
        What it changes on the device, on the wire and at the server.
    reads_inputs : bool
        Whether what it sends depends on the inputs beside the activation; what was guaranteed before it is then void.
    batchwise : bool
        Whether one example's loss depends on the others of its batch: clipping each one's gradient then bounds nothing.
    """

    name: ClassVar[str]
    options: ClassVar[type[BaseModel]]
    changes: ClassVar[Changes]
    reads_inputs: ClassVar[bool] = False
    batchwise: ClassVar[bool] = False

    def __init__(self, settings: Any, seed: int) -> None:
        self.settings = settings
        self.seed = seed

    @property
    def trains(self) -> bool:
        """Whether it has a loss that the encoder is trained by."""
        return type(self).loss is not Transform.loss

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return what is sent, of the activation's shape (n, *activation_shape); inputs are (n, *input_shape).

        As it is, where only the encoder's weights are defended.
        """
        return activation

    def private(self) -> tuple[str, ...]:
        """Name the private attributes of its training examples that the device must know."""
        return ()

    def prepare(self, scene: Scene) -> nn.Module | None:
        """Make what the device trains beside the encoder, such as an adversary; it lasts over rounds."""
        return None

    def loss(self, activation: torch.Tensor, batch: Batch) -> torch.Tensor | None:
        """Return what the encoder minimises beside the task's loss: a scalar, the mean over the batch.

        `activation` hangs on the encoder's graph, as it is before `__call__`. What `prepare` made is trained here, on
        the detached activation.
        """
        return None

    def told(self) -> dict[str, float]:
        """Figures of the round for the server's history, such as the score of an adversary in the loop."""
        return {}

    def guarantee(self, messages: int) -> str | None:
        """Say what holds for every attacker after `messages` messages about one input; None: nothing does."""
        return None

    def refusal(self) -> str | None:
        """Say why there is no guarantee, where a reader would expect one."""
        return None


def register(transform: type[Transform]) -> type[Transform]:
    """Class decorator: make `transform` known under its name.

    Raises
    ------
    ConfigError
        It is no transform, does not say what it changes, or has the name of another.
    """
    if not issubclass(transform, Transform):
        raise ConfigError(f"transforms: {transform.__qualname__} is no {Transform.__module__}.Transform")
    if not isinstance(getattr(transform, "changes", None), Changes):
        raise ConfigError(f"transforms.{transform.name}: gives no `changes`; say what it changes where")
    TRANSFORMS.add(transform.name, transform, transform)
    return transform


TRANSFORMS: Registry[type[Transform]] = Registry(
    "transform", "wireleak.transforms", "client.transforms", error=ConfigError, adopt=register
)


def make(config: Plugin, seed: int) -> Transform:
    """Make one transform.

    Raises
    ------
    ConfigError
        There is none of that name, or an option is wrong.
    """
    kind = TRANSFORMS.get(config.name, "transforms")
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
