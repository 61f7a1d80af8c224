"""The config of `python -m adversary attack`, checked; see docs/explanation/processes.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from wireleak.common.config import Strict
from wireleak.common.plan import ClientPlan, PrivacyConfig


class Captures(Strict):
    """Capture files of the attacker's own device and of the victims; `untrained_*` are for the reader `untrained`."""

    device: list[Path] = Field(default_factory=list, description="captures of the attacker's own device")
    victims: list[Path] = Field(default_factory=list, description="captures of the victims")
    untrained_device: list[Path] = Field(
        default_factory=list,
        description="captures of the device's same inputs before training, for the reader `untrained`",
    )
    untrained_victims: list[Path] = Field(
        default_factory=list,
        description="captures of the victims' same inputs before training, for the reader `untrained`",
    )


class Tensors(Strict):
    """The same activations as .npy files, only for the reader `in-process`."""

    device: Path = Field(description="activations of the attacker's device, .npy")
    victims: Path = Field(description="activations of the victims, .npy")


class Granted(Strict):
    """Files that the threat model grants; `model` is the grant "architecture" (docs/explanation/processes.md).

    `untrained_encoder` is only for the reader `untrained`.
    """

    surrogate: Path | None = Field(default=None, description="the attacker's surrogate examples, .npz")
    public: Path | None = Field(
        default=None,
        description="instead of surrogate: one input of zeros, for its shape, range and classes, .npz; then only the "
        "attack's own guess is made",
    )
    model: dict[str, Any] | None = Field(
        default=None, description="config of the network, for attacks that know the architecture"
    )
    encoder: Path | None = Field(default=None, description="weights of the encoder, .safetensors")
    head: Path | None = Field(default=None, description="weights of the head, .safetensors")
    untrained_encoder: Path | None = Field(
        default=None, description="weights of the encoder before training, for the reader `untrained`"
    )
    files: dict[str, Path] = Field(
        default_factory=dict, description="other granted files by name, such as candidates or records"
    )

    @model_validator(mode="after")
    def _inputs(self) -> Granted:
        if (self.surrogate is None) == (self.public is None):
            raise ValueError("surrogate: give the surrogate examples, or else public")
        return self


class TrainingSeen(Strict):
    """The training settings that every participant knows, and the updates under attack; for attacks on updates.

    `captures.victims` then holds one capture (or one folder of a curious server) per client, in the order of the
    clients' numbers; with `own`, only the attacker's. `units` are (sender, round); sender -1 is the mean of all but
    `own`.
    """

    plan: ClientPlan
    participants: int = Field(ge=1, description="clients per round")
    examples: int = Field(
        ge=1, description="examples of each client per round; Flower sends this number unmasked, as num-examples"
    )
    own: int | None = Field(default=None, description="the attacker's client number, if it is a participant")
    privacy: PrivacyConfig | None = Field(default=None, description="settings of the clients' DP-SGD, which are public")
    released: bool = Field(False, description="the attacker sees only the last global model")
    units: list[tuple[int, int]] = Field(
        description="updates under attack, as (sender, round); sender -1 is the mean of all but the attacker"
    )
    rounds: tuple[int, int] | None = Field(
        default=None, description="first and last round that are read; by default all"
    )


class AttackConfig(Strict):
    """One attack on one target, from captures to guesses."""

    attack: str = Field(description="name of the attack")
    target: str = Field(
        description="target of the attack: input, label, member, secret, canary, or a private attribute"
    )
    seed: int = Field(0, ge=0, description="seed of the process's random draws")
    options: dict[str, Any] = Field(default_factory=dict, description="the attack's own options")
    captures: Captures
    tensors: Tensors | None = Field(
        default=None, description="activations that never crossed a wire, for the reader `in-process`"
    )
    granted: Granted
    training: TrainingSeen | None = Field(
        default=None, description="the clients' training settings, for attacks on updates"
    )
    victims: int = Field(ge=1, description="number of rows to guess")
    classes: int = Field(0, ge=0, description="classes of the task, for attacks on training labels")
    seconds: float | None = Field(
        default=None, gt=0, description="time after which a training stops with what it has; none by default"
    )
    own: Path | None = Field(
        default=None, description="folder in which a process with granted.public left the attack's own guess"
    )
    out: Path = Field(description="folder for guesses.npz and meta.json")
