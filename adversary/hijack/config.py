"""The config of `python -m adversary hijack`, checked; see docs/explanation/processes.md."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from wireleak.common.config import AbsolutePath, PadConfig, SecurityConfig, Strict
from wireleak.common.models import ModelConfig


class HijackOptions(Strict):
    """Settings of `adversary.hijack.fsha`. The authors' values are for 10,000 steps and larger networks."""

    warm_up: int = Field(
        default=400, ge=0, description="Steps on only public inputs before the first answer; the authors take none."
    )
    learning_rate: float = Field(
        default=1e-3,
        gt=0,
        le=1,
        description="Learning rate of the decoder, and of the pilot in the warm-up (Adam); the authors' is 1e-5.",
    )
    pilot_learning_rate: float = Field(
        default=1e-5, gt=0, le=1, description="Learning rate of the pilot after the warm-up (Adam)."
    )
    critic_learning_rate: float = Field(
        default=2e-3, gt=0, le=1, description="Learning rate of the critic (Adam); the authors' is 1e-4."
    )
    gradient_penalty: float = Field(
        default=10.0, ge=0, description="Weight of the critic's gradient penalty; the authors' is 500."
    )
    critic_steps: int = Field(default=1, ge=1, le=100, description="Steps of the critic for each client batch.")
    width: float = Field(
        default=1.0, gt=0, le=64, description="Factor on the number of hidden units of decoder and critic."
    )
    keep_accuracy: bool = Field(
        default=False,
        description="Also train an honest head, so that the task's accuracy does not reveal the attack.",
    )
    head_learning_rate: float = Field(default=4e-3, gt=0, le=1, description="Learning rate of that honest head (Adam).")


class HijackConfig(Strict):
    """Config of the malicious server."""

    model: ModelConfig
    address: str = Field(
        default="127.0.0.1:0", pattern=r"^.+:\d{1,5}$", description="host:port to listen on; port 0 takes a free one"
    )
    security: SecurityConfig = SecurityConfig()
    ready: AbsolutePath = Field(description="JSON file with its addresses, written once it serves")
    checkpoints: AbsolutePath = Field(description="folder for the weights of each round")
    max_batch: PositiveInt = Field(default=1024, description="most examples in one message")
    pad: PadConfig = Field(default=None, description="bytes to which messages with tensors are padded")
    surrogate: AbsolutePath = Field(description="the attacker's surrogate examples, .npz")
    out: AbsolutePath = Field(description="folder for the attack's own networks and figures")
    seed: int = Field(default=0, ge=0, description="seed of the process's random draws")
    options: HijackOptions = HijackOptions()
