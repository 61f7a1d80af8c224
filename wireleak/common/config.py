"""Configs and studies as files: checked completely before anything starts, with one line for the first mistake."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)
from pydantic.dataclasses import dataclass as checked_dataclass

from wireleak.common.registry import unknown
from wireleak.common.wire import Security
from wireleak.common.wire.channel import MAX_MESSAGE_BYTES

# For an unknown key, a message lists all known ones up to this many; beyond it only the nearest.
_LISTED_KEYS = 12
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")  # pydantic's words, of models and dataclasses


class ConfigError(ValueError):
    """A config, or a file it names, cannot be used; the message is one line that names the field."""


Seed = Annotated[
    int | None, Field(ge=0, description="seed of the process's random draws; by default the system draws one")
]


def drawn(seed: int | None) -> int:
    """Return a seed; where a config gives none, a new one that the system draws."""
    return secrets.randbits(63) if seed is None else seed


class Strict(BaseModel):
    """Base of every config: an unknown key is a mistake, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(Strict):
    """Limits of the calls to the head, or to the gateway."""

    streams: PositiveInt = Field(default=64, description="calls that the head answers at once")
    peer_streams: PositiveInt = Field(default=32, description="calls of one connection at once")
    idle: PositiveFloat | None = Field(
        default=None,
        description="seconds without a message after which a call is ended (default: plan.timeout; of a browser 30)",
    )
    age: PositiveFloat | None = Field(default=None, description="seconds that a call may last (default: any)")
    memory: PositiveInt = Field(
        default=1024, description="MiB that the messages of all calls may take; large activations leave fewer calls"
    )


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SecurityConfig(Security):
    """How a link is protected; without any key it is plaintext."""

    ca: Path | None = Field(
        default=None,
        description="PEM of the authority that signs the other side; a server with it asks clients for certificates",
    )
    certificate: Path | None = Field(default=None, description="PEM of this side's certificate")
    key: Path | None = Field(default=None, description="PEM of this side's key")


class NoOptions(Strict):
    """Settings of a plug-in that has none."""


class Plugin(Strict):
    """A plug-in by its name, with its options; whoever runs it checks both."""

    name: str = Field(description="the plug-in's name, as `wireleak plugins` lists it")
    options: dict[str, Any] = Field(default_factory=dict, description="the plug-in's own options")


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} is not absolute; give the absolute path")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


def _pad(pad: object) -> object:
    number = isinstance(pad, int) and not isinstance(pad, bool) and 1 <= pad <= MAX_MESSAGE_BYTES
    if not (pad is None or pad == "powers" or number):
        raise ValueError(f'{pad!r} is not a size; give bytes from 1 to {MAX_MESSAGE_BYTES}, or "powers"')
    return pad


# How messages that carry tensors are padded; see `wireleak.common.wire.padding`.
PadConfig = Annotated[int | Literal["powers"] | None, BeforeValidator(_pad)]


Config = TypeVar("Config", bound=BaseModel)


def read_config(path: Path, kind: type[Config]) -> Config:
    """Read and check a JSON config.

    Raises
    ------
    ConfigError
        The file cannot be read, or its first wrong field.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"config: cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(f"{first_mistake(error, kind)} (in {path})") from error


def config_of_node(node: Mapping[str, Any], kind: type[Config]) -> Config:
    """Read and check the JSON config that a node's own settings name, once for all its messages.

    Raises
    ------
    ConfigError
        The node names no file, or as for `read_config`.
    """
    if not node.get("config"):
        raise ConfigError("""config: start the node with --node-config 'config="/…/client-0/config.json"'""")
    path = Path(str(node["config"]))
    return cast(Config, _read_once(path, path.stat().st_mtime_ns if path.exists() else 0, kind))


# Without links, one process has the nodes of all clients.
@lru_cache(maxsize=64)
def _read_once(path: Path, _written: int, kind: type[Config]) -> Config:
    return read_config(path, kind)


_Options = TypeVar("_Options", bound=BaseModel)


def options_of(kind: type[_Options], given: Mapping[str, Any], field: str) -> _Options:
    """Check the options of something that was chosen by its name.

    Raises
    ------
    ConfigError
        An option is wrong; the message begins with `field`, such as "strategy.options".
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"{field}.{first_mistake(error, kind)}") from None


def first_mistake(error: ValidationError, kind: type[BaseModel] | None = None) -> str:
    """Say the first mistake in one line: the field, e.g. "links[0].listen", and what is wrong with it.

    `kind` is what was validated; with it an unknown key is answered with the known ones and the nearest.
    """
    mistakes = error.errors()
    # A misspelt key is also a missing one: say that it is misspelt.
    first = next((mistake for mistake in mistakes if mistake["type"] in _UNKNOWN_KEY), mistakes[0])
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        message = "is missing"
    elif first["type"] in _UNKNOWN_KEY:
        message = _no_such_key(str(first["loc"][-1]), _known_keys(kind, first["loc"][:-1]))
    elif first["type"] == "json_invalid":
        place = "config"
    return f"{place}: {message}" if place else message


def _no_such_key(key: str, known: list[str]) -> str:
    if not known:
        return f"no key called {key!r}; remove it or check its spelling"
    return unknown("key", key, known, most=_LISTED_KEYS)


def _known_keys(kind: Any, place: tuple[str | int, ...]) -> list[str]:
    """Fields of the part of a model that `place` names; none where it is no model's."""
    models = _models(kind)
    for part in place:
        # Lists were unpacked with their annotation, so a position in one changes nothing.
        if isinstance(part, str):
            fields = [model.__pydantic_fields__.get(part) for model in models]
            models = [model for field in fields if field is not None for model in _models(field.annotation)]
    return [name for model in models for name in model.__pydantic_fields__]


def _models(annotation: Any) -> list[Any]:
    """All models in an annotation, e.g. of `tuple[Plugin, ...] | None`."""
    if hasattr(annotation, "__pydantic_fields__"):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
