"""What a device's process is told: one JSON file, checked whole before anything starts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from wireleak.config import AbsolutePath, SecurityConfig, Strict
from wireleak.models import ModelConfig


class HeadConfig(Strict):
    """Where the head is reached."""

    address: str = Field(pattern=r"^.+:\d{1,5}$")
    security: SecurityConfig = SecurityConfig()


class ClientConfig(Strict):
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


class DeviceConfig(Strict):
    """Config of a device that only asks for predictions."""

    model: ModelConfig
    encoder: AbsolutePath
    inputs: AbsolutePath
    batch: PositiveInt = 1
    head: HeadConfig
    predictions: AbsolutePath
