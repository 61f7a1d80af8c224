"""A customer's device: stream activations of private inputs to the head, and keep the predictions."""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from torch import nn

from client.config import DeviceConfig
from client.examples import read_inputs
from client.transforms.chain import Chain
from wireleak.common.config import ConfigError, drawn
from wireleak.common.files import write_arrays
from wireleak.common.head.encoder import predict_split
from wireleak.common.head.link import connect
from wireleak.common.models import load_weights


def serve(config: DeviceConfig) -> int:
    """Get the head's prediction for each input once, write the predictions, and return their number.

    Raises
    ------
    ConfigError
        The encoder or the inputs cannot be used.
    HeadError
        The head does not fit, refuses, or cannot be reached; no predictions are written.
    """
    torch.set_num_threads(1)
    encoder, _ = config.model.network().split(config.model.cut)
    try:
        load_weights(encoder, config.encoder)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"encoder: {config.encoder} does not hold the encoder of {config.model.name} at cut {config.model.cut}; "
            "name a file that does"
        ) from error
    shape = config.model.input_shape
    if config.activations:
        encoder, shape = nn.Sequential(), config.model.network().activation_shape(config.model.cut)
    inputs = read_inputs(config.inputs, shape, "inputs")
    with connect(config.head, config.model) as stub:
        chain = Chain(config.transforms, drawn(config.seed))
        count, size = config.model.classes, config.batch
        predictions = predict_split(encoder, stub, inputs, count, size, before=chain.before, send=chain)
    write_arrays(config.predictions, {"prediction": predictions})
    return len(predictions)
