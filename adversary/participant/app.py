"""The Flower ClientApp of a malicious participant: messages as an honest client sends them, weights by a strategy.

In split mode it streams to the head too, as an honest client does, what its strategy chooses.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from adversary.participant.config import ParticipantConfig
from adversary.participant.registry import Floats, Labels, Poisoning, make, read_arrays
from wireleak.common.config import ConfigError, config_of_node, drawn
from wireleak.common.exchanged import Moment, kept_file
from wireleak.common.head.config import HeadConfig
from wireleak.common.head.encoder import EVALUATION_BATCH, predict_split, predict_whole, score
from wireleak.common.head.link import connect
from wireleak.common.models import save_weights
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training, seed_libraries
from wireleak.common.wire.flower import as_received, round_of

app = ClientApp()


@app.train()
@as_received
def train(message: Message, context: Context) -> Message:
    """Train by the strategy, and reply in the form that an honest client uses."""
    config = _config(context)
    network = _network(config, message)
    part = _part(config, network)
    server_round = round_of(message)
    inputs, labels = _examples(config, config.train, "train", server_round)
    how = Training(config.plan, (drawn(config.seed), server_round))
    # As an honest client does: without it Dropout would differ from run to run.
    seed_libraries(how.seed)
    _keep(config, part, server_round, "start")
    strategy, extras = make(config), {}
    if config.plan.mode == "split":
        assert isinstance(strategy, Poisoning)  # make() refuses a strategy without this mode
        began, named = time.process_time(), context.node_id if config.plan.order == "fixed" else None
        with connect(_head(config), config.model, node=named) as stub:
            loss = strategy.train_split(part, stub, inputs, labels, how)
        extras["device-seconds"] = time.process_time() - began
    else:
        loss = strategy.train(network, inputs, labels, how)
    _keep(config, part, server_round, "end")
    metrics = MetricRecord({"num-examples": len(inputs), "train-loss": loss, **extras})
    arrays = ArrayRecord(cast(Any, part.state_dict()))
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
@as_received
def evaluate(message: Message, context: Context) -> Message:
    """Score the averaged model honestly on the participant's own evaluation examples."""
    config = _config(context)
    network = _network(config, message)
    part = _part(config, network)
    _keep(config, part, round_of(message) + 1, "start")
    inputs, labels = _examples(config, config.evaluation, "evaluation")
    if config.plan.mode == "split":
        with connect(_head(config), config.model) as stub:
            found = predict_split(part, stub, inputs, config.model.classes, EVALUATION_BATCH)
    else:
        found = predict_whole(part, inputs)
    loss, right = score(found, labels)
    accuracy = float(right.mean())
    metrics = MetricRecord({"num-examples": len(inputs), "evaluation-loss": loss, "evaluation-accuracy": accuracy})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _part(config: ParticipantConfig, network: Network) -> nn.Module:
    """Return the blocks that a client trains: in split mode, those before the cut."""
    return network.split(config.model.cut)[0] if config.plan.mode == "split" else network.blocks


def _head(config: ParticipantConfig) -> HeadConfig:
    if config.head is None:
        raise ConfigError("head: is missing, and split mode needs it; give the head's address")
    return config.head


def _keep(config: ParticipantConfig, part: nn.Module, server_round: int, moment: Moment) -> None:
    """Save a copy of the weights that it received or sent, where it has no link on which the attack could read them."""
    if config.record is not None:
        save_weights(part, kept_file(config.record, server_round, moment))


def _config(context: Context) -> ParticipantConfig:
    torch.set_num_threads(1)
    return config_of_node(context.node_config, ParticipantConfig)


def _network(config: ParticipantConfig, message: Message) -> Network:
    """Return the network with the message's global weights."""
    network = config.model.network()
    try:
        _part(config, network).load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"model: the global model does not fit {config.model.name} in {config.plan.mode} mode"
        ) from error
    return network


def _examples(
    config: ParticipantConfig, path: Path, field: str, server_round: int | None = None
) -> tuple[Floats, Labels]:
    """Read the participant's own examples; if they are a stream, only those of this round."""
    inputs, labels = read_arrays(path, field, ("x", "y"))
    if inputs.dtype != np.float32 or inputs.shape[1:] != config.model.input_shape or labels.dtype != np.int64:
        wanted = ", ".join(map(str, config.model.input_shape))
        raise ConfigError(f"{field}: x in {path} is {inputs.dtype} {inputs.shape}; give float32 (n, {wanted})")
    with np.load(path) as stored:
        streamed = server_round is not None and "round" in stored.files
    if not streamed:
        return inputs, labels
    (rounds,) = read_arrays(path, field, ("round",))
    now = rounds == server_round
    if not now.any():
        raise ConfigError(f"{field}: {path} holds no example of round {server_round}; give examples for every round")
    return inputs[now], labels[now]
