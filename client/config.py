"""What a device's process is told: one JSON file, checked whole before anything starts."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from wireleak.common.config import AbsolutePath, PadConfig, Plugin, SecurityConfig, Strict
from wireleak.common.models import ModelConfig
from wireleak.common.plan import TrainingPlan


class HeadConfig(Strict):
    """Where the head is reached."""

    address: str = Field(pattern=r"^.+:\d{1,5}$")
    security: SecurityConfig = SecurityConfig()
    pad: PadConfig = None


class ClientConfig(Strict):
    """Config of a ClientApp's node; docs/explanation/processes.md describes each field."""

    model: ModelConfig
    plan: TrainingPlan
    train: AbsolutePath
    evaluation: AbsolutePath
    head: HeadConfig | None = None
    seed: int = Field(default=0, ge=0)
    transforms: tuple[Plugin, ...] = ()
    keep: AbsolutePath | None = Field(default=None, description="folder for what transforms train over rounds")
    record: AbsolutePath | None = Field(default=None, description="folder in which a curious client keeps its models")
    watch: bool = False

    @model_validator(mode="after")
    def _mode_fits(self) -> ClientConfig:
        if self.plan.privacy is not None and self.plan.objective == "autoencoder":
            raise ValueError('plan.privacy: an autoencoder trains without noise; set objective = "task" or drop it')
        if self.plan.objective == "autoencoder" and self.plan.mode != "split":
            raise ValueError("plan.objective: an autoencoder's encoder trains only in split mode")
        return self

    @model_validator(mode="after")
    def _head_where_needed(self) -> ClientConfig:
        if self.plan.mode == "split" and self.head is None:
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
