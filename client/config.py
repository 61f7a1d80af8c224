"""What a device's process is told: one JSON file, checked whole before anything starts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from wireleak.common.config import AbsolutePath, PadConfig, Plugin, PrivacyConfig, SecurityConfig, Strict
from wireleak.common.models import ModelConfig


class HeadConfig(Strict):
    """Where the head is reached."""

    address: str = Field(pattern=r"^.+:\d{1,5}$")
    security: SecurityConfig = SecurityConfig()
    pad: PadConfig = None


class ClientConfig(Strict):
    """Config of a ClientApp's node; docs/explanation/processes.md describes each field."""

    model: ModelConfig
    mode: Literal["split", "federated"]
    train: AbsolutePath
    evaluation: AbsolutePath
    head: HeadConfig | None = None
    epochs: PositiveInt
    batch: PositiveInt
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    optimiser: Literal["adam", "sgd"] = "adam"
    seed: int = Field(default=0, ge=0)
    rounds: PositiveInt = Field(default=1, description="of the training, for what changes in its course")
    transforms: tuple[Plugin, ...] = ()
    keep: AbsolutePath | None = Field(default=None, description="folder for what transforms train over rounds")
    mods: tuple[Plugin, ...] = ()
    secure: bool = Field(default=False, description="mask updates (Flower's SecAgg+), as the server must ask for too")
    record: AbsolutePath | None = Field(default=None, description="folder in which a curious client keeps its models")
    objective: Literal["task", "autoencoder"] = "task"
    watch: bool = False
    privacy: PrivacyConfig | None = None

    @model_validator(mode="after")
    def _mode_fits(self) -> ClientConfig:
        if self.privacy is not None and self.objective == "autoencoder":
            raise ValueError('privacy: an autoencoder trains without noise; set objective = "task" or drop it')
        if self.objective == "autoencoder" and self.mode != "split":
            raise ValueError("objective: an autoencoder's encoder is trained in split mode alone")
        return self

    @model_validator(mode="after")
    def _head_where_needed(self) -> ClientConfig:
        if self.mode == "split" and self.head is None:
            raise ValueError("head: split mode needs the head's address")
        return self


class DeviceConfig(Strict):
    """Config of a device that only asks for predictions."""

    model: ModelConfig
    encoder: AbsolutePath
    inputs: AbsolutePath
    batch: PositiveInt = 1
    head: HeadConfig
    transforms: tuple[Plugin, ...] = ()
    seed: int = Field(default=0, ge=0)
    predictions: AbsolutePath
