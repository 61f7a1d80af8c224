"""The config of `python -m adversary initial`, checked; see docs/explanation/processes.md."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from wireleak.common.config import AbsolutePath, Strict
from wireleak.common.models import ModelConfig


class InitialConfig(Strict):
    """Config of a malicious server's first global model."""

    name: str = Field(description="name of the initial model")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the initial model")
    model: ModelConfig
    surrogate: AbsolutePath = Field(description="the attacker's surrogate examples, .npz")
    seed: int = Field(default=0, ge=0, description="seed of the process's random draws")
    out: AbsolutePath = Field(description="file for the weights, .safetensors")
