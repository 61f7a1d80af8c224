"""Hide training data in the low mantissa bits of the weights that are sent."""

from __future__ import annotations

import numpy as np
import torch

from adversary.participant.payloads import LowBitsLayout, carriers, flat, payload, to_bytes, unflat, write_low_bits
from adversary.participant.registry import Floats, Labels, Strategy, read_arrays, register
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training, train_whole


@register
class SongLowBits(Strategy):
    """Train honestly, then overwrite the low mantissa bits of every float32 parameter with the secret.

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017, section 4.1.
    """

    name = "song-low-bits"
    options = LowBitsLayout

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train, then hide the secret."""
        loss = train_whole(network.blocks, inputs, labels, how)
        (secret,) = read_arrays(self.config.secret, "secret", ("x",))
        state = {name: value.numpy() for name, value in network.blocks.state_dict().items()}
        names = carriers(state, matrices=False)
        bits = payload(to_bytes(secret), self.settings.compress)
        hidden = unflat(write_low_bits(flat(state, names), bits, self.settings), state, names)
        network.blocks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in hidden.items()})
        return loss
