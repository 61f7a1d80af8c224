"""Config of the server's processes: one JSON file, checked whole before anything starts."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from wireleak.common.config import AbsolutePath, Limits, PadConfig, SecurityConfig, Seed, Strict
from wireleak.common.models import ModelConfig
from wireleak.common.plan import PrivacyConfig, TrainingPlan


class Registered(Strict):
    """How many examples a client registered before training."""

    train: PositiveInt = Field(description="most examples that one of its updates counts for")
    evaluation: PositiveInt = Field(description="examples that its evaluation counts for")


class ServerConfig(Strict):
    """Config of the head and of the ServerApp."""

    model: ModelConfig
    plan: TrainingPlan
    address: str = Field(
        default="127.0.0.1:0",
        pattern=r"^.+:\d{1,5}$",
        description="host:port that the head listens on; port 0 takes a free one",
    )
    security: SecurityConfig = SecurityConfig()
    ready: AbsolutePath = Field(description="JSON file that the head writes once it serves, with its addresses")
    max_batch: PositiveInt = Field(default=1024, description="most examples in one message")
    limits: Limits = Limits()
    clients: PositiveInt = Field(description="clients that take part in a round")
    registered: tuple[Registered, ...] = Field(
        default=(),
        description="examples that each client registered, in the order of the clients; a reply that states more is "
        "left out (default: at most 16,777,216 of each client)",
    )
    seed: Seed = None
    checkpoints: AbsolutePath = Field(description="folder for the weights of the last 100 rounds")
    history: AbsolutePath = Field(description="JSON file with losses, accuracy and dropped clients of each round")
    initial: AbsolutePath | None = Field(default=None, description="weights to begin with, of the whole network")
    record: AbsolutePath | None = Field(default=None, description="folder in which a curious server keeps updates")
    pad: PadConfig = Field(default=None, description="bytes to which messages with tensors are padded")

    @property
    def privacy(self) -> PrivacyConfig | None:
        """How the head trains privately; in federated mode the clients train it."""
        return self.plan.privacy if self.plan.mode == "split" else None
