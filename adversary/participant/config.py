"""What a malicious participant's process is told: the honest client's settings, and what it does beside."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from wireleak.common.config import AbsolutePath, Plugin, Strict
from wireleak.common.models import ModelConfig


class ParticipantConfig(Strict):
    """Config of the malicious participant's node."""

    model: ModelConfig
    train: AbsolutePath
    evaluation: AbsolutePath
    epochs: PositiveInt
    batch: PositiveInt
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    optimiser: Literal["adam", "sgd"] = "adam"
    seed: int = Field(default=0, ge=0)
    strategy: Plugin
    surrogate: AbsolutePath | None = Field(default=None, description=".npz: x, y and attribute:<name>")
    secret: AbsolutePath | None = Field(default=None, description=".npz: x, the examples to hide")
    out: AbsolutePath = Field(description="folder that lasts between rounds; each message is a process of its own")
