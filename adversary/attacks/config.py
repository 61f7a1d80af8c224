"""The config of `python -m adversary attack`, checked; see docs/architecture.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Captures(_Strict):
    """Capture files of the attacker's own device and of the victims; `untrained_*` feed the control of that name."""

    device: list[Path] = []
    victims: list[Path] = []
    untrained_device: list[Path] = []
    untrained_victims: list[Path] = []


class Tensors(_Strict):
    """The same activations, handed over as .npy files: feeds the control "in-process" alone."""

    device: Path
    victims: Path


class Granted(_Strict):
    """What the threat model grants, each a file."""

    surrogate: Path


class AttackConfig(_Strict):
    """One attack on one target, from captures to guesses."""

    attack: str
    target: str
    seed: int = Field(0, ge=0)
    options: dict[str, Any] = {}
    captures: Captures
    tensors: Tensors | None = None
    granted: Granted
    victims: int = Field(ge=1)
    out: Path


def load(path: Path) -> AttackConfig:
    """Read and check a config file.

    Raises
    ------
    ValueError
        It is unreadable, or a field is wrong; one line that names the field.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"config: {path} is no readable JSON: {error}") from None
    return valid(AttackConfig, content)


def valid(model: type[Model], content: Any, prefix: str = "") -> Model:
    """Validate `content`, or raise a ValueError of one line that names the first wrong field."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = prefix + ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise ValueError(f"{where}: is missing") from None
        if first["type"] == "extra_forbidden":
            fields = ", ".join(sorted(model.model_fields)) if len(first["loc"]) == 1 else "see docs/architecture.md"
            raise ValueError(f"{where}: no such field ({fields})") from None
        raise ValueError(f"{where or 'config'}: {first['msg']} (got {first['input']!r:.80})") from None
