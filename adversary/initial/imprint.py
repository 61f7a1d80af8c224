"""A first model that sorts its clients' inputs into bins, one hidden unit a bin, so that few share one."""

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
        description="of the first layer: a large one saturates the head, a small one is washed away by local steps",
    )
    head: PositiveFloat = Field(default=1.0, description="Standard deviation of the head's weights.")


@register("imprint")
def write(config: InitialConfig) -> None:
    """Write the weights of a network of `wireleak.common.models.zoo.imprint` with an imprint in its first layer.

    Every unit of the first layer takes an input's mean, their biases are minus its quantiles on the attacker's own
    data (`imprint_layer`), both times `scale`. The head reads all units alike: then an example sends the same gradient
    to each unit below its own brightness, and neighbours' differences hold one bin alone. Nothing else has to be kept
    for the attack: the thresholds' order is the rows'.

    Raises
    ------
    ValueError
        An unknown option, a surrogate without inputs of the model's shape, or a network that does not begin with a
        linear layer on the flattened input and end in another one.

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
            f"model: an imprint takes a linear layer on the flattened input and a linear head, which {network.name} is "
            'not; take model = "imprint28"'
        )
    public = surrogate(config.surrogate, None, config.seed).without_copies().inputs
    if public.shape[1:] != network.input_shape:
        raise ValueError(f"surrogate: inputs of {public.shape[1:]}, the model's are {network.input_shape}; grant such")
    first, head = linear
    weight, bias = imprint_layer(public.reshape(len(public), -1), first.out_features)
    draw = np.random.default_rng(config.seed).standard_normal((head.out_features, 1)) * options.head
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(options.scale * weight))
        first.bias.copy_(torch.from_numpy(options.scale * bias))
        head.weight.copy_(torch.from_numpy(np.repeat(draw, head.in_features, axis=1)))
        head.bias.zero_()
    save_weights(network.blocks, config.out)
