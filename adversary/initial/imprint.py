"""A first model that sorts clients' inputs into bins, one hidden unit per bin, so that few inputs share a bin."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, PositiveFloat
from torch import nn

from adversary.attacks.gradients.analytic import imprint_layer
from adversary.attacks.harness.knowledge import surrogate
from adversary.initial.config import InitialConfig
from adversary.initial.models import register
from wireleak.common.config import Strict, options_of
from wireleak.common.models.weights import save_weights


class ImprintOptions(Strict):
    """Settings of the imprint."""

    scale: PositiveFloat = Field(
        default=0.3,
        description="Factor on the first layer: a large one saturates the head, local steps wash a small one away.",
    )
    head: PositiveFloat = Field(default=1.0, description="Standard deviation of the head's weights.")


@register("imprint")
def write(config: InitialConfig) -> None:
    """Write a network of `wireleak.common.models.zoo.imprint` whose first layer sorts inputs into bins of brightness.

    Every unit of the first layer takes an input's mean. The biases are minus the quantiles of this mean on the
    attacker's own data (`imprint_layer`). Both are multiplied by `scale`. The head reads all units alike, so an example
    sends the same gradient to each unit below its own brightness. The difference of neighbouring units then holds only
    one bin. The attack needs no other state: the rows are in the order of the thresholds.

    Raises
    ------
    ValueError
        An option is unknown, the surrogate inputs do not have the model's shape, or the network is not one linear layer
        on the flattened input and one linear head.

    References
    ----------
    Fowl, Geiping, Czaja, Goldblum, Goldstein, "Robbing the Fed", ICLR 2022.
    """
    options = options_of(ImprintOptions, config.options, "options")
    network = config.model.network()
    linear = [module for module in network.blocks.modules() if isinstance(module, nn.Linear)]
    size = int(np.prod(network.input_shape))
    with_weights = [module for module in network.blocks.modules() if module._parameters]
    if len(linear) != 2 or with_weights != linear or linear[0].in_features != size:
        raise ValueError(
            f"model: {network.name} does not fit an imprint, which needs one linear layer on the flattened input and a "
            'linear head; set model = "imprint28"'
        )
    public = surrogate(config.surrogate, None, config.seed).without_copies().inputs
    if public.shape[1:] != network.input_shape:
        raise ValueError(
            f"surrogate: inputs have shape {public.shape[1:]}, the model takes {network.input_shape}; grant such data"
        )
    first, head = linear
    weight, bias = imprint_layer(public.reshape(len(public), -1), first.out_features)
    draw = np.random.default_rng(config.seed).standard_normal((head.out_features, 1)) * options.head
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(options.scale * weight))
        first.bias.copy_(torch.from_numpy(options.scale * bias))
        head.weight.copy_(torch.from_numpy(np.repeat(draw, head.in_features, axis=1)))
        head.bias.zero_()
    save_weights(network.blocks, config.out)
