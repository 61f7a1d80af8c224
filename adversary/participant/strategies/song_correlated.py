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
    strength: float = Field(1.0, ge=0, description="Weight of the correlation beside the task's loss.")


@register
class SongCorrelated(Strategy):
    """Subtract ``strength * |Pearson(weights, pixels)|`` from the task's loss.

    The weights are those of arrays of two dimensions or more, in order of name. The pixels' grey levels follow a mark
    of white and black that tells the sign of the correlation; where the weights outnumber them, they start over.

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017, section 4.2.
    """

    name = "song-correlated"
    options = SongCorrelatedOptions

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train on the task and the correlation at once."""
        (secret,) = read_arrays(self.config.secret, "secret", ("x",))
        state = {name: value.numpy() for name, value in network.blocks.state_dict().items()}
        names = carriers(state, matrices=True)
        pixels = torch.from_numpy(levels(to_bytes(secret), sum(state[name].size for name in names)))

        def reward(weights: torch.Tensor) -> torch.Tensor:
            wanted: torch.Tensor = -self.settings.strength * pearson(weights, pixels).abs()
            return wanted

        return train_beside(network, inputs, labels, how, names, reward)


def pearson(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation of two vectors (n,)."""
    return torch.cosine_similarity(one - one.mean(), other - other.mean(), dim=0)
