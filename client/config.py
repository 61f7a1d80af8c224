"""The configs of a device's processes: one JSON file each, fully checked before anything starts."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from wireleak.common.config import AbsolutePath, Plugin, Seed, Strict
from wireleak.common.head.config import HeadConfig
from wireleak.common.models import ModelConfig
from wireleak.common.plan import TrainingPlan

__all__ = ["ClientConfig", "DeviceConfig", "HeadConfig"]


class ClientConfig(Strict):
    """Config of a ClientApp's node."""

    model: ModelConfig
    plan: TrainingPlan
    train: AbsolutePath = Field(description="the client's training examples, .npz: x and y")
    evaluation: AbsolutePath = Field(description="the client's evaluation examples, .npz: x and y")
    head: HeadConfig | None = Field(default=None, description="the head's address; required in split mode")
    seed: Seed = None
    transforms: tuple[Plugin, ...] = Field(default=(), description="transforms of inputs and activations, in order")
    keep: AbsolutePath | None = Field(
        default=None, description="folder for the networks that transforms train over rounds"
    )
    record: AbsolutePath | None = Field(
        default=None, description="folder in which a curious client keeps the models that it receives and sends"
    )
    ledger: AbsolutePath | None = Field(
        default=None, description="file to which the labels of each batch of split training are appended, JSON lines"
    )
    answers: AbsolutePath | None = Field(
        default=None, description="file that says of each evaluation example whether its class was named, .npz: right"
    )
    watch: bool = Field(default=False, description="check the head's gradients for a hijack")

    @model_validator(mode="after")
    def _mode_fits(self) -> ClientConfig:
        if self.plan.privacy is not None and self.plan.objective == "autoencoder":
            raise ValueError(
                'plan.privacy: an autoencoder trains without noise; set objective = "task" or drop privacy'
            )
        if self.plan.objective == "autoencoder" and self.plan.mode != "split":
            raise ValueError(
                f'plan.objective: an autoencoder trains only in split mode, not {self.plan.mode!r}; set mode = "split"'
            )
        return self

    @model_validator(mode="after")
    def _head_where_needed(self) -> ClientConfig:
        if self.plan.mode == "split" and self.head is None:
            raise ValueError("head: is missing, and split mode needs it; give the head's address")
        return self


class DeviceConfig(Strict):
    """Config of a device that only requests predictions."""

    model: ModelConfig
    encoder: AbsolutePath = Field(description="weights of the encoder, .safetensors")
    inputs: AbsolutePath = Field(description="inputs to send, .npz: x")
    activations: bool = Field(
        default=False, description="true: an audit; the inputs are activations, and the encoder is left out"
    )
    batch: PositiveInt = Field(default=1, description="inputs in one message")
    head: HeadConfig = Field(description="the head's address")
    transforms: tuple[Plugin, ...] = Field(default=(), description="transforms of inputs and activations, in order")
    seed: Seed = None
    predictions: AbsolutePath = Field(description="file for the predictions, .npz: prediction")
