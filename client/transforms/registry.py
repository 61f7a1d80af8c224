"""The registry of transforms: built-in ones, and those of installed packages (entry points "wireleak.transforms").

A transform changes how a device trains its encoder, the inputs of its encoder, or the activations that it sends. It is
a defence or malicious code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
from pydantic import BaseModel
from torch import nn

from wireleak.common.config import ConfigError, Plugin, options_of
from wireleak.common.registry import Registry

# Kinds of inputs: pictures and sensor readings, or the word numbers of texts.
Kind = Literal["numbers", "words"]


class Changes(NamedTuple):
    """The changes that a transform makes on the device, on the wire and at the server, a short phrase each."""

    device: str
    wire: str = "nothing"
    server: str = "nothing"


@dataclass(frozen=True)
class Scene:
    """The facts that a transform gets before training.

    Parameters
    ----------
    input_shape, activation_shape : tuple of int
        Shapes of one example.
    values : mapping of str to int
        Number of values of each private attribute that the transform needs.
    learning_rate : float
        Learning rate of the encoder.
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
        Labels of the task.
    private : mapping of str to LongTensor (n,)
        The private attributes that the transform needs.
    progress : float
        Progress of training over all rounds, in [0, 1).
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    private: Mapping[str, torch.Tensor]
    progress: float


class Transform:
    """A change to one batch of activations or inputs, or to the loss that trains the encoder.

    Attributes
    ----------
    name : str
        Registry name.
    options : type of pydantic.BaseModel
        Model of its settings.
    changes : Changes
        Its changes on the device, on the wire and at the server.
    acts_on : {"activation", "numbers", "words"}
        The tensor that it changes: the activation, or the input before the encoder computes anything. An input is of
        numbers (a picture, sensor readings) or of word numbers, and a device with other inputs refuses the transform.
    reads_inputs : bool
        Whether its output depends directly on the inputs; guarantees of earlier steps are then void.
    batchwise : bool
        Whether one example's loss depends on other examples of its batch; clipping per example then bounds nothing.
    """

    name: ClassVar[str]
    options: ClassVar[type[BaseModel]]
    changes: ClassVar[Changes]
    acts_on: ClassVar[Literal["activation"] | Kind] = "activation"
    reads_inputs: ClassVar[bool] = False
    batchwise: ClassVar[bool] = False

    def __init__(self, settings: Any, seed: int) -> None:
        self.settings = settings
        self.seed = seed

    @property
    def trains(self) -> bool:
        """Whether it has a loss that trains the encoder."""
        return type(self).loss is not Transform.loss

    @property
    def before_encoder(self) -> bool:
        """Whether it changes the input instead of the activation."""
        return self.acts_on != "activation"

    @property
    def at_inference(self) -> bool:
        """Whether it changes what is sent; one that only trains the encoder does nothing on a serving device."""
        return type(self).__call__ is not Transform.__call__

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the tensor to send, of the activation's shape (n, *activation_shape); inputs are (n, *input_shape).

        A transform that acts on the input gets the input for `activation` too, and returns what the encoder gets. The
        default returns the activation unchanged, for transforms that only train the encoder.
        """
        return activation

    def private(self) -> tuple[str, ...]:
        """Return the names of the private attributes that the device must know for its training examples."""
        return ()

    def prepare(self, scene: Scene) -> nn.Module | None:
        """Return a network that the device trains in addition, such as an adversary; it is kept between rounds."""
        return None

    def loss(self, activation: torch.Tensor, batch: Batch) -> torch.Tensor | None:
        """Return a scalar to add to the task's loss, the mean over the batch.

        `activation` is the encoder's output before `__call__`, attached to the encoder's graph. This method also trains
        the network of `prepare`, on the detached activation.
        """
        return None

    def told(self) -> dict[str, float]:
        """Return diagnostics of the round for the server's history, such as the score of an adversary in the loop."""
        return {}

    def guarantee(self, messages: int) -> str | None:
        """Return the guarantee against every attacker after `messages` messages about one input, or None."""
        return None

    def refusal(self) -> str | None:
        """Return why there is no guarantee, if a reader would expect one."""
        return None


def register(transform: type[Transform]) -> type[Transform]:
    """Register a class of transforms under its name (class decorator).

    Raises
    ------
    ConfigError
        It is not a transform, lacks `changes`, or has the name of another.
    """
    if not issubclass(transform, Transform):
        raise ConfigError(
            f"transforms: {transform.__qualname__} is no {Transform.__module__}.Transform; make it a subclass"
        )
    if not isinstance(getattr(transform, "changes", None), Changes):
        raise ConfigError(
            f"transforms.{transform.name}: gives no `changes`; name its changes on device, wire and server"
        )
    TRANSFORMS.add(transform.name, transform, transform)
    return transform


TRANSFORMS: Registry[type[Transform]] = Registry(
    "transform", "wireleak.transforms", "client.transforms", error=ConfigError, adopt=register, needs=("options",)
)


def make(config: Plugin, seed: int) -> Transform:
    """Make one transform.

    Raises
    ------
    ConfigError
        The name is unknown, or an option is wrong.
    """
    kind = TRANSFORMS.get(config.name, "transforms")
    return kind(options_of(kind.options, config.options, f"transforms.{config.name}"), seed)


def make_all(configs: Sequence[Plugin], seed: int, inputs: Kind | None = None) -> list[Transform]:
    """Make the transforms of one device, and check that they fit together.

    Parameters
    ----------
    configs : sequence of Plugin
    seed : int
    inputs : {"numbers", "words"}, optional
        Kind of the device's inputs; None leaves it unchecked.

    Raises
    ------
    ConfigError
        As for `make`; a transform of the input follows one of activations, or acts on another kind of input.
    """
    steps = [make(config, seed) for config in configs]
    later = ""
    for step in steps:
        if not step.before_encoder:
            later = later or step.name
            continue
        if later:
            raise ConfigError(f"transforms.{step.name}: acts on the input, but follows {later}; put it first")
        if inputs is not None and step.acts_on != inputs:
            fitting = [name for name, kind in TRANSFORMS.all().items() if kind.acts_on == inputs]
            raise ConfigError(
                f"transforms.{step.name}: acts on inputs of {step.acts_on}, but these inputs are {inputs}; "
                f"use {' or '.join(fitting)}, or a transform of activations"
            )
    return steps


def guarantees(steps: Sequence[Transform], messages: int) -> list[str | None]:
    """Return the guarantee of each step of a chain; a later step keeps it, unless that step reads the inputs."""
    return [
        None if any(later.reads_inputs for later in steps[place + 1 :]) else step.guarantee(messages)
        for place, step in enumerate(steps)
    ]


def straight_through(activation: torch.Tensor, sent: torch.Tensor) -> torch.Tensor:
    """Return `sent`, bit-equal, with the gradient of `activation`.

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
