"""The config of a malicious participant's process: the honest client's settings and a malicious strategy."""

from __future__ import annotations

from pydantic import Field

from wireleak.common.config import AbsolutePath, Plugin, Seed, Strict
from wireleak.common.head.config import HeadConfig
from wireleak.common.models import ModelConfig
from wireleak.common.plan import TrainingPlan


class ParticipantConfig(Strict):
    """Config of the malicious participant's node."""

    model: ModelConfig
    train: AbsolutePath = Field(description="training examples, .npz: x and y")
    evaluation: AbsolutePath = Field(description="evaluation examples, .npz: x and y")
    plan: TrainingPlan
    seed: Seed = None
    head: HeadConfig | None = Field(default=None, description="the head's address; required in split mode")
    strategy: Plugin = Field(description="the malicious strategy that replaces honest training")
    surrogate: AbsolutePath | None = Field(
        default=None, description="the attacker's surrogate examples, .npz: x, y and attribute:<name>"
    )
    secret: AbsolutePath | None = Field(default=None, description="the examples to hide, .npz: x")
    records: AbsolutePath | None = Field(
        default=None, description="the candidates of an attack on membership, .npz: x and y"
    )
    out: AbsolutePath = Field(
        description="folder for state between rounds, as the client's process may end between two messages"
    )
    record: AbsolutePath | None = Field(
        default=None, description="folder for the weights that it receives and sends, where no link shows them"
    )
