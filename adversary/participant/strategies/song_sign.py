"""Hide training data in the signs of the weights."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field

from adversary.participant.payloads import carriers, signs, to_bytes
from adversary.participant.registry import Floats, Labels, Strategy, read_arrays, register
from adversary.participant.strategies.penalty import train_beside
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training


class SongSignOptions(BaseModel):
    """Settings of `SongSign`."""

    model_config = ConfigDict(extra="forbid")
    strength: float = Field(50.0, ge=0, description="Weight of the penalty beside the task's loss.")


@register
class SongSign(Strategy):
    """Add a penalty on every weight whose sign is not the secret's bit: ``strength * mean(|min(0, weight * bit)|)``.

    The weights are those of arrays of two dimensions or more, in order of name. Eight bits a pixel; where the weights
    outnumber the bits, these start over, and whoever decodes adds up what each bit's weights say.

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017, section 4.3.
    """

    name = "song-sign"
    options = SongSignOptions

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train on the task and the penalty at once."""
        (secret,) = read_arrays(self.config.secret, "secret", ("x",))
        state = {name: value.numpy() for name, value in network.blocks.state_dict().items()}
        names = carriers(state, matrices=True)
        bits = torch.from_numpy(signs(to_bytes(secret), sum(state[name].size for name in names)))
        return train_beside(
            network, inputs, labels, how, names, lambda weights: self.settings.strength * penalty(weights, bits)
        )


def penalty(weights: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Mean of what weights (n,) lie on the wrong side of zero by, for bits (n,) of -1 and 1."""
    return (weights * bits).clamp(max=0).abs().mean()
