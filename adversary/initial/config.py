"""The config of `python -m adversary initial`, checked; see docs/explanation/processes.md."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from wireleak.common.config import AbsolutePath, Strict
from wireleak.common.models import ModelConfig


class InitialConfig(Strict):
    """How a malicious server makes its first global model."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    model: ModelConfig
    surrogate: AbsolutePath
    seed: int = Field(default=0, ge=0)
    out: AbsolutePath
