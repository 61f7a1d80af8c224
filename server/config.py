"""Config of the server's processes: one JSON file, checked whole before anything starts."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from wireleak.common.config import AbsolutePath, PadConfig, SecurityConfig, Strict
from wireleak.common.models import ModelConfig
from wireleak.common.plan import PrivacyConfig, TrainingPlan


class ServerConfig(Strict):
    """Config of the head and of the ServerApp; docs/explanation/processes.md describes each field."""

    model: ModelConfig
    plan: TrainingPlan
    address: str = Field(default="127.0.0.1:0", pattern=r"^.+:\d{1,5}$")
    security: SecurityConfig = SecurityConfig()
    ready: AbsolutePath
    max_batch: PositiveInt = 1024
    clients: PositiveInt
    seed: int = Field(default=0, ge=0)
    checkpoints: AbsolutePath
    history: AbsolutePath
    initial: AbsolutePath | None = Field(default=None, description="weights to begin with, of the whole network")
    record: AbsolutePath | None = Field(default=None, description="folder in which a curious server keeps updates")
    pad: PadConfig = None

    @property
    def privacy(self) -> PrivacyConfig | None:
        """How the head trains privately; in federated mode the clients train it."""
        return self.plan.privacy if self.plan.mode == "split" else None
