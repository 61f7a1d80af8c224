"""The config of `python -m adversary attack`, checked; see docs/explanation/processes.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from wireleak.common.config import Strict
from wireleak.common.plan import ClientPlan


class Captures(Strict):
    """Capture files of the attacker's own device and of the victims; `untrained_*` feed the control of that name."""

    device: list[Path] = Field(default_factory=list)
    victims: list[Path] = Field(default_factory=list)
    untrained_device: list[Path] = Field(default_factory=list)
    untrained_victims: list[Path] = Field(default_factory=list)


class Tensors(Strict):
    """The same activations, handed over as .npy files: feeds the control "in-process" alone."""

    device: Path
    victims: Path


class Granted(Strict):
    """What the threat model grants, each a file; `model` is what "architecture" means (docs/explanation/processes.md).

    `untrained_encoder` feeds the control of that name alone.
    """

    surrogate: Path
    model: dict[str, Any] | None = None
    encoder: Path | None = None
    head: Path | None = None
    untrained_encoder: Path | None = None
    files: dict[str, Path] = Field(default_factory=dict)


class TrainingSeen(Strict):
    """For attacks on updates: what every participant is told of the training, and which updates are attacked.

    `captures.victims` are then one capture (or a curious server's folder) a client, in the order of their numbers;
    with `own`, the attacker's own alone. `units` are (sender, round); sender -1 is the mean of all but `own`.
    """

    plan: ClientPlan
    participants: int = Field(ge=1)
    examples: int = Field(ge=1, description="of each client in a round; sent in clear as num-examples")
    own: int | None = None
    released: bool = Field(False, description="only the last global model is seen")
    units: list[tuple[int, int]]


class AttackConfig(Strict):
    """One attack on one target, from captures to guesses."""

    attack: str
    target: str
    seed: int = Field(0, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)
    captures: Captures
    tensors: Tensors | None = None
    granted: Granted
    training: TrainingSeen | None = None
    victims: int = Field(ge=1)
    classes: int = Field(0, ge=0, description="classes of the task, for attacks on training labels")
    out: Path
