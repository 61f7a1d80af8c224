"""The training plan: how a model is trained. The study declares it, and every process gets it in its config."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from wireleak.common.config import Plugin, Strict

Optimiser = Literal["adam", "sgd"]
Mode = Literal["split", "federated"]
Objective = Literal["task", "autoencoder"]
Order = Literal["any", "fixed"]
# The strategy under which clients mask their updates, by Flower's SecAgg+.
SECURE = "secagg"
# Strategies of which we know that they draw nothing at random.
_WITHOUT_NOISE = ("fedavg", "krum", "median", "trimmed-mean", "norm-clipping")


def _noise(multiplier: float) -> float:
    if not multiplier > 0:
        raise ValueError(f"{multiplier:g} adds no noise, so there is no epsilon; give more than 0")
    return multiplier


class PrivacyConfig(Strict):
    """DP-SGD with its accountant (Abadi et al. 2016, by Opacus): clipped gradients, Gaussian noise on their sum."""

    noise_multiplier: Annotated[float, Field(allow_inf_nan=False), AfterValidator(_noise)] = Field(
        description="standard deviation of the noise, as a multiple of max_grad_norm"
    )
    max_grad_norm: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="largest norm of each example's gradient; longer ones are clipped",
    )
    optimiser: Optimiser = Field(default="sgd", description="optimiser of the noised steps")
    delta: float = Field(default=1e-5, gt=0, lt=1, description="delta for which epsilon is reported")


class ClientPlan(Strict):
    """How every client trains. All participants of a training know it, also a malicious one."""

    rounds: PositiveInt = Field(default=2, description="rounds of training; the server averages the weights after each")
    epochs: PositiveInt = Field(default=2, description="passes over a client's examples per round")
    batch: PositiveInt = Field(default=32, description="examples per step; under DP-SGD the expected number")
    learning_rate: PositiveFloat = Field(
        default=2e-3, allow_inf_nan=False, description="learning rate of the clients' optimiser"
    )
    optimiser: Optimiser = Field(
        default="adam", description="the clients' optimiser; sgd has no momentum; the head always uses Adam"
    )
    frozen_encoder: bool = Field(
        default=False, description="clients keep the encoder as it is, and only the head learns; in split mode"
    )


class TrainingPlan(ClientPlan):
    """How the model is trained, by clients and server."""

    mode: Mode = Field(
        default="split",
        description="split: clients train the encoder against the head; federated: clients train the whole network",
    )
    head_learning_rate: PositiveFloat | None = Field(
        default=None,
        allow_inf_nan=False,
        description="learning rate of the head's optimiser in split mode; by default that of the clients'",
    )
    evaluate_every: PositiveInt = Field(default=1, description="rounds between two evaluations")
    strategy: Plugin = Field(default=Plugin(name="fedavg"), description="how the server combines updates")
    mods: tuple[Plugin, ...] = Field(
        default=(), description="changes that clients make to their update before they send it"
    )
    timeout: PositiveFloat = Field(
        default=300.0,
        allow_inf_nan=False,
        description="seconds without an answer after which a client or process counts as failed",
    )
    objective: Objective = Field(
        default="task",
        description="task: the encoder learns from the head's gradients; autoencoder: it learns to rebuild its input",
    )
    pack: bool = Field(
        default=False,
        description="true: the arrays of a Flower message travel as one block of bytes with its layout, which takes "
        "less CPU time; the tap unpacks them",
    )
    order: Order = Field(
        default="fixed",
        description="fixed: in split mode the head takes one batch of each client in turn, so that two runs of one "
        "secret are equal; any: it takes batches as they come",
    )
    privacy: PrivacyConfig | None = Field(default=None, description="DP-SGD; in split mode for both encoder and head")

    @model_validator(mode="after")
    def _pack_sees_arrays(self) -> TrainingPlan:
        if self.pack and self.secure:
            raise ValueError("pack: secure aggregation sends masked arrays in Flower's own form; set pack = false")
        return self

    def attacked(self, rounds: tuple[int, int] | None) -> range:
        """Return the rounds from the first to the last that an attack is limited to; all where it is not."""
        first, last = rounds or (1, self.rounds)
        return range(first, last + 1)

    @property
    def secure(self) -> bool:
        """Whether clients mask their updates (SecAgg+), so that the server sees only their sum."""
        return self.strategy.name == SECURE

    @property
    def head_rate(self) -> float:
        """The learning rate of the head's optimiser."""
        return self.head_learning_rate or self.learning_rate

    @property
    def noised(self) -> bool:
        """Whether training, the mods or the strategy may add noise that protects."""
        return self.privacy is not None or bool(self.mods) or self.strategy.name not in _WITHOUT_NOISE
