"""Config of the server's processes: one JSON file, checked whole before anything starts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from wireleak.common.config import AbsolutePath, NoisedSteps, PadConfig, Plugin, SecurityConfig, Strict
from wireleak.common.models import ModelConfig


class HeadPrivacyConfig(NoisedSteps):
    """DP-SGD of the head, in split mode; the clients account for epsilon."""

    batch: PositiveInt = Field(description="expected examples in a client's step, by which the noised sum is divided")


class ServerConfig(Strict):
    """Config of the head and of the ServerApp; docs/explanation/processes.md describes each field."""

    model: ModelConfig
    mode: Literal["split", "federated"]
    address: str = Field(default="127.0.0.1:0", pattern=r"^.+:\d{1,5}$")
    security: SecurityConfig = SecurityConfig()
    ready: AbsolutePath
    max_batch: PositiveInt = 1024
    rounds: PositiveInt
    clients: PositiveInt
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    timeout: float = Field(default=120, gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)
    checkpoints: AbsolutePath
    history: AbsolutePath
    evaluate_every: PositiveInt = 1
    strategy: Plugin = Plugin(name="fedavg")
    initial: AbsolutePath | None = Field(default=None, description="weights to begin with, of the whole network")
    record: AbsolutePath | None = Field(default=None, description="folder in which a curious server keeps updates")
    privacy: HeadPrivacyConfig | None = None
    pad: PadConfig = None

    @model_validator(mode="after")
    def _mode_fits(self) -> ServerConfig:
        if self.privacy is not None and self.mode != "split":
            raise ValueError('privacy: in federated mode clients train the head; set mode = "split" or drop it')
        return self
