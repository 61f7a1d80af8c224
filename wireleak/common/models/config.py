"""The "model" part of a config: the network and its cut."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveInt, model_validator

from wireleak.common.config import Strict
from wireleak.common.models.factory import is_factory
from wireleak.common.models.networks import Network, build


class ModelConfig(Strict):
    """The network and its cut."""

    name: str = Field(description="the network's name, or your own network as MODULE:FACTORY")
    input_shape: tuple[PositiveInt, ...] = Field(description="shape of one example")
    classes: int = Field(ge=2, description="classes of the task")
    cut: PositiveInt = Field(description="number of the block after which the device sends its activations")
    seed: int = Field(default=0, ge=0, description="seed of the initial weights")
    weights: Path | None = Field(default=None, description="file of weights to begin with, instead of drawn ones")

    @model_validator(mode="after")
    def _exists(self) -> ModelConfig:
        self.network().split(self.cut)
        return self

    @property
    def public_name(self) -> str:
        """The name as it may cross a wire: a user's file without its folder, which may say who the user is."""
        return self.name.rpartition("/")[2] if is_factory(self.name) else self.name

    def network(self) -> Network:
        """Build the network with the weights of the file, or those that `seed` draws."""
        return build(self.name, self.input_shape, self.classes, self.seed, self.weights)
