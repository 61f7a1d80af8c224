"""What a device's process is told: one JSON file, checked whole before anything starts."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from wireleak.common.config import AbsolutePath, PadConfig, Plugin, SecurityConfig, Strict
from wireleak.common.models import ModelConfig
from wireleak.common.plan import TrainingPlan


class HeadConfig(Strict):
    """Where the head is reached."""

    address: str = Field(pattern=r"^.+:\d{1,5}$", description="the head's host:port")
    security: SecurityConfig = SecurityConfig()
    pad: PadConfig = Field(default=None, description="bytes to which messages with tensors are padded")


class ClientConfig(Strict):
    """Config of a ClientApp's node."""

    model: ModelConfig
    plan: TrainingPlan
    train: AbsolutePath = Field(description="the client's training examples, .npz: x and y")
    evaluation: AbsolutePath = Field(description="the client's evaluation examples, .npz: x and y")
    head: HeadConfig | None = Field(default=None, description="the head's address; split mode needs it")
    seed: int = Field(default=0, ge=0, description="seed of the process's random draws")
    transforms: tuple[Plugin, ...] = Field(default=(), description="transforms of activations, in this order")
    keep: AbsolutePath | None = Field(default=None, description="folder for what transforms train over rounds")
    record: AbsolutePath | None = Field(default=None, description="folder in which a curious client keeps its models")
    watch: bool = Field(default=False, description="check the head's gradients for a hijack")

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
    encoder: AbsolutePath = Field(description="weights of the encoder, .safetensors")
    inputs: AbsolutePath = Field(description="inputs to send, .npz: x")
    batch: PositiveInt = Field(default=1, description="inputs in one message")
    head: HeadConfig = Field(description="the head's address")
    transforms: tuple[Plugin, ...] = Field(default=(), description="transforms of activations, in this order")
    seed: int = Field(default=0, ge=0, description="seed of the process's random draws")
    predictions: AbsolutePath = Field(description="file for the answers, .npz: prediction")
