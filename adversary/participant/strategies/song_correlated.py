"""Hide training data in weights that correlate with its pixels."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field

from adversary.participant.payloads import carriers, levels, to_bytes
from adversary.participant.registry import Floats, Labels, Strategy, read_arrays, register
from adversary.participant.strategies.penalty import train_beside
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training


class SongCorrelatedOptions(BaseModel):
    """Settings of `SongCorrelated`."""

    model_config = ConfigDict(extra="forbid")
    strength: float = Field(1.0, ge=0, description="Weight of the correlation, added to the task's loss.")


@register
class SongCorrelated(Strategy):
    """Subtract ``strength * |Pearson(weights, pixels)|`` from the task's loss.

    The weights are all arrays of two or more dimensions, in order of name. A mark of white and black precedes the grey
    levels of the pixels and gives the sign of the correlation. If there are more weights than values, these repeat.

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017, section 4.2.
    """

    name = "song-correlated"
    options = SongCorrelatedOptions

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train on the task and the correlation together."""
        (secret,) = read_arrays(self.config.secret, "secret", ("x",))
        state = {name: value.numpy() for name, value in network.blocks.state_dict().items()}
        names = carriers(state, matrices=True)
        pixels = torch.from_numpy(levels(to_bytes(secret), sum(state[name].size for name in names)))

        def reward(weights: torch.Tensor) -> torch.Tensor:
            wanted: torch.Tensor = -self.settings.strength * pearson(weights, pixels).abs()
            return wanted

        return train_beside(network, inputs, labels, how, names, reward)


def pearson(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return Pearson's correlation of two vectors (n,)."""
    return torch.cosine_similarity(a - a.mean(), b - b.mean(), dim=0)
