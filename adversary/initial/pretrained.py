"""A first model that has been trained before, on the attacker's own data: what later rounds look like, at once."""

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
    """Settings of the training."""

    epochs: PositiveInt = Field(default=5, description="Passes over the attacker's own data.")
    batch: PositiveInt = Field(default=32, description="Examples in a step.")
    learning_rate: PositiveFloat = Field(default=2e-3, description="Adam's.")


@register("pretrained")
def write(config: InitialConfig) -> None:
    """Write the weights of the network after training on the surrogate data.

    Nothing in them is malicious: any server may begin with a model that it has. Attacks on gradients then meet a
    trained network in the first round, without the hundreds of rounds that it takes clients.

    Raises
    ------
    ValueError
        An unknown option, or a surrogate whose inputs or labels are not the model's.
    """
    options = options_of(PretrainedOptions, config.options, "options")
    network, own = config.model.network(), surrogate(config.surrogate, None, config.seed).without_copies()
    if own.inputs.shape[1:] != network.input_shape or own.labels.max() >= network.classes:
        raise ValueError(
            f"surrogate: inputs of {own.inputs.shape[1:]} and labels up to {own.labels.max()}, the model takes "
            f"{network.input_shape} and {network.classes} classes; grant such"
        )
    # Dropout, where there is any, draws from torch's own generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        how = Training(
            ClientPlan(epochs=options.epochs, batch=options.batch, learning_rate=options.learning_rate),
            (config.seed, 0),
        )
        train_whole(network.blocks, own.inputs, own.labels, how)
    save_weights(network.blocks, config.out)
