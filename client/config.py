"""What a device's process is told: one JSON file, checked whole before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from wireleak.models import Network, build
from wireleak.wire import Security


class ConfigError(ValueError):
    """A config, or a file it names, cannot be used; the message is one line that names the field."""


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} is not absolute; give the whole path")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SecurityConfig(Security):
    """How the link to the head is protected; see `wireleak.wire.Security`."""


class ModelConfig(_Strict):
    """Which network, and where it is cut."""

    name: str
    input_shape: tuple[PositiveInt, ...]
    classes: int = Field(ge=2)
    cut: PositiveInt
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _exists(self) -> ModelConfig:
        self.network().split(self.cut)
        return self

    def network(self) -> Network:
        """Build the network with the weights that `seed` draws."""
        return build(self.name, self.input_shape, self.classes, self.seed)


class HeadConfig(_Strict):
    """Where the head is reached."""

    address: str = Field(pattern=r"^.+:\d{1,5}$")
    security: SecurityConfig = SecurityConfig()


class ClientConfig(_Strict):
    """Config of a ClientApp's node; docs/architecture.md describes each field."""

    model: ModelConfig
    mode: Literal["split", "federated"]
    train: AbsolutePath
    evaluation: AbsolutePath
    head: HeadConfig | None = None
    epochs: PositiveInt
    batch: PositiveInt
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _head_where_needed(self) -> ClientConfig:
        if self.mode == "split" and self.head is None:
            raise ValueError("head: split mode needs the head's address")
        return self


class DeviceConfig(_Strict):
    """Config of a device that only asks for predictions."""

    model: ModelConfig
    encoder: AbsolutePath
    inputs: AbsolutePath
    batch: PositiveInt = 1
    head: HeadConfig
    predictions: AbsolutePath


Config = TypeVar("Config", ClientConfig, DeviceConfig)


def read(path: Path, kind: type[Config]) -> Config:
    """Read and check a config.

    Raises
    ------
    ConfigError
        The file cannot be read, or its first wrong field.
    """
    try:
        return kind.model_validate_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: cannot read {path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "config"
        raise ConfigError(f"{field}: {first['msg'].removeprefix('Value error, ')} (in {path})") from error
