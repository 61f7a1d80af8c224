"""The config of `python -m adversary attack`, checked; see docs/explanation/processes.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from wireleak.common.config import Strict
from wireleak.common.plan import ClientPlan


class Captures(Strict):
    """Capture files of the attacker's own device and of the victims; `untrained_*` feed the control of that name."""

    device: list[Path] = Field(default_factory=list, description="captures of the attacker's own device")
    victims: list[Path] = Field(default_factory=list, description="captures of the victims")
    untrained_device: list[Path] = Field(
        default_factory=list, description="the same inputs served before training, for the reader `untrained`"
    )
    untrained_victims: list[Path] = Field(
        default_factory=list, description="the victims' inputs served before training, for the reader `untrained`"
    )


class Tensors(Strict):
    """The same activations, handed over as .npy files: feeds the control "in-process" alone."""

    device: Path = Field(description="activations of the attacker's device, .npy")
    victims: Path = Field(description="activations of the victims, .npy")


class Granted(Strict):
    """What the threat model grants, each a file; `model` is what "architecture" means (docs/explanation/processes.md).

    `untrained_encoder` feeds the control of that name alone.
    """

    surrogate: Path = Field(description="the attacker's surrogate examples, .npz")
    model: dict[str, Any] | None = Field(
        default=None, description="config of the network, for attacks that know the architecture"
    )
    encoder: Path | None = Field(default=None, description="weights of the encoder, .safetensors")
    head: Path | None = Field(default=None, description="weights of the head, .safetensors")
    untrained_encoder: Path | None = Field(
        default=None, description="weights before training, for the reader `untrained`"
    )
    files: dict[str, Path] = Field(
        default_factory=dict, description="further files by name, such as candidates or records"
    )


class TrainingSeen(Strict):
    """For attacks on updates: what every participant is told of the training, and which updates are attacked.

    `captures.victims` are then one capture (or a curious server's folder) a client, in the order of their numbers;
    with `own`, the attacker's own alone. `units` are (sender, round); sender -1 is the mean of all but `own`.
    """

    plan: ClientPlan
    participants: int = Field(ge=1, description="clients in a round")
    examples: int = Field(ge=1, description="of each client in a round; sent in clear as num-examples")
    own: int | None = Field(
        default=None, description="the attacker's number among the clients, where it is a participant"
    )
    released: bool = Field(False, description="only the last global model is seen")
    units: list[tuple[int, int]] = Field(
        description="attacked updates as (sender, round); sender -1 is the mean of all but the attacker"
    )


class AttackConfig(Strict):
    """One attack on one target, from captures to guesses."""

    attack: str = Field(description="name of the attack")
    target: str = Field(description="what it guesses: input, label, member, secret, canary, or a private attribute")
    seed: int = Field(0, ge=0, description="seed of the process's random draws")
    options: dict[str, Any] = Field(default_factory=dict, description="the attack's own options")
    captures: Captures
    tensors: Tensors | None = Field(
        default=None, description="activations that never crossed a wire, for the reader `in-process`"
    )
    granted: Granted
    training: TrainingSeen | None = Field(
        default=None, description="how clients were told to train, for attacks on updates"
    )
    victims: int = Field(ge=1, description="how many values it guesses")
    classes: int = Field(0, ge=0, description="classes of the task, for attacks on training labels")
    out: Path = Field(description="folder for guesses.npz and meta.json")
