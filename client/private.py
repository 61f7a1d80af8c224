"""Private training: DP-SGD on a client's own examples, by Opacus, and what it guarantees."""

from __future__ import annotations

from torch import nn

from client.examples import Floats, Labels
from wireleak.common.measures.bounds.accounting import epsilon
from wireleak.common.models.private import train_whole_privately
from wireleak.common.models.training import Training
from wireleak.common.plan import PrivacyConfig


def train_private(
    network: nn.Module, inputs: Floats, labels: Labels, how: Training, privacy: PrivacyConfig, *, rounds: int = 1
) -> tuple[float, float]:
    """Train the whole network by DP-SGD, see `wireleak.common.models.private.train_whole_privately`.

    The guarantee covers each training example, and not the inputs that the network gets afterwards. Sampling and noise
    follow from the seed and the shard, so a study can be repeated and no two clients add the same noise. An attacker
    who knows both can subtract the noise; a real device must draw from a secure generator.

    Parameters
    ----------
    network : nn.Module
        The network, changed in place.
    inputs, labels : arrays of shapes (n, *input_shape) and (n,)
        The private shard.
    how : Training
    privacy : PrivacyConfig
    rounds : int
        Number of such rounds with an update from this client, this one included: they compose.

    Returns
    -------
    loss : float
        Mean over all drawn examples, in nats, at the weights before their step.
    epsilon : float
        Epsilon of all rounds at `privacy.delta`; the unit is one training example.

    Raises
    ------
    ConfigError
        A layer makes per-example clipping invalid (BatchNorm), or Opacus cannot clip it.
    """
    loss, steps, rate = train_whole_privately(network, inputs, labels, how, privacy)
    return loss, epsilon(privacy.noise_multiplier, rate, rounds * steps, privacy.delta)
