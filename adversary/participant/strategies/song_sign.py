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
    strength: float = Field(50.0, ge=0, description="Weight of the penalty, added to the task's loss.")


@register
class SongSign(Strategy):
    """Penalise every weight whose sign differs from the secret's bit: ``strength * mean(|min(0, weight * bit)|)``.

    The weights are all arrays of two or more dimensions, in order of name. A pixel has eight bits. If there are more
    weights than bits, the bits repeat, and the decoder adds up the weights of each bit.

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017, section 4.3.
    """

    name = "song-sign"
    options = SongSignOptions

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train on the task and the penalty together."""
        (secret,) = read_arrays(self.config.secret, "secret", ("x",))
        state = {name: value.numpy() for name, value in network.blocks.state_dict().items()}
        names = carriers(state, matrices=True)
        bits = torch.from_numpy(signs(to_bytes(secret), sum(state[name].size for name in names)))
        return train_beside(
            network, inputs, labels, how, names, lambda weights: self.settings.strength * penalty(weights, bits)
        )


def penalty(weights: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Return the mean distance by which weights (n,) lie on the wrong side of zero, for bits (n,) of -1 and 1."""
    return (weights * bits).clamp(max=0).abs().mean()
