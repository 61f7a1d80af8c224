"""A first model that is already trained on the attacker's own data, as models of later rounds are."""

from __future__ import annotations

import torch
from pydantic import Field, PositiveFloat, PositiveInt

from adversary.attacks.harness.knowledge import surrogate
from adversary.initial.config import InitialConfig
from adversary.initial.models import register
from wireleak.common.config import Strict, options_of
from wireleak.common.models.training import Training, train_whole
from wireleak.common.models.weights import save_weights
from wireleak.common.plan import ClientPlan


class PretrainedOptions(Strict):
    """Settings of `pretrained`."""

    epochs: PositiveInt = Field(default=5, description="Passes over the attacker's own data.")
    batch: PositiveInt = Field(default=32, description="Examples per step.")
    learning_rate: PositiveFloat = Field(default=2e-3, description="Learning rate (Adam).")


@register("pretrained")
def write(config: InitialConfig) -> None:
    """Write the weights of the network after training on the surrogate data.

    These weights are not malicious: any server may start from a model that it has. Attacks on gradients then see a
    trained network in the first round, without the hundreds of rounds that clients would need.

    Raises
    ------
    ValueError
        An option is unknown, or the surrogate inputs or labels do not fit the model.
    """
    options = options_of(PretrainedOptions, config.options, "options")
    network, own = config.model.network(), surrogate(config.surrogate, None, config.seed).without_copies()
    if own.inputs.shape[1:] != network.input_shape or own.labels.max() >= network.classes:
        raise ValueError(
            f"surrogate: inputs have shape {own.inputs.shape[1:]} and labels go up to {own.labels.max()}; "
            f"the model takes {network.input_shape} and {network.classes} classes; grant data that fits"
        )
    # Dropout draws from torch's global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        how = Training(
            ClientPlan(epochs=options.epochs, batch=options.batch, learning_rate=options.learning_rate),
            (config.seed, 0),
        )
        train_whole(network.blocks, own.inputs, own.labels, how)
    save_weights(network.blocks, config.out)
