"""A client's part of secure aggregation: its update is sent masked, and only the sum of all can be unmasked.

This uses Flower's SecAgg+ mod, which has Flower's older message format: arrays by their order, without names.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from flwr.app import Context, Message
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common.recorddict_compat import fitres_to_recorddict, recorddict_to_fitins
from torch import nn

from wireleak.common.config import ConfigError

Train = Callable[[nn.Module, int], tuple[float, int]]


def train_secure(message: Message, context: Context, network: nn.Module, train: Train) -> Message:
    """Answer one message of the protocol; before the message that requests the update, train.

    Parameters
    ----------
    message, context
        As passed to the ClientApp; the context keeps the client's keys between messages.
    network : nn.Module
        The network; it gets the message's weights and is changed in place.
    train : callable
        (network, round) -> mean loss and number of examples.
    """

    def answer(message: Message, context: Context) -> Message:
        instruction = recorddict_to_fitins(message.content, keep_input=True)
        state = network.state_dict()
        arrays = parameters_to_ndarrays(instruction.parameters)
        if len(arrays) != len(state):
            raise ConfigError(
                f"model: the global model has {len(arrays)} arrays, this network {len(state)}; set the server's model"
            )
        network.load_state_dict({name: torch.from_numpy(new) for name, new in zip(state, arrays, strict=True)})
        loss, examples = train(network, int(instruction.config["server-round"]))
        weights = ndarrays_to_parameters([value.numpy() for value in network.state_dict().values()])
        result = FitRes(Status(Code.OK, ""), weights, examples, {"train-loss": loss})
        return Message(fitres_to_recorddict(result, keep_input=False), reply_to=message)

    return secaggplus_mod(message, context, answer)
