"""The Flower ClientApp of a malicious participant: messages as an honest client sends them, weights by a strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from adversary.participant.config import ParticipantConfig
from adversary.participant.registry import Floats, Labels, make, read_arrays
from wireleak.common.config import ConfigError, drawn, read_config
from wireleak.common.exchanged import Moment, kept_file
from wireleak.common.models import save_weights
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training, seed_libraries
from wireleak.common.wire.flower import as_received, round_of

app = ClientApp()
_EVALUATION_BATCH = 128


@app.train()
@as_received
def train(message: Message, context: Context) -> Message:
    """Train by the strategy, and reply in the form that an honest client uses."""
    config = _config(context)
    network = _network(config, message)
    server_round = round_of(message)
    inputs, labels = _examples(config, config.train, "train", server_round)
    how = Training(config.plan, (drawn(config.seed), server_round))
    # As an honest client does: without it Dropout would differ from run to run.
    seed_libraries(how.seed)
    _keep(config, network, server_round, "start")
    loss = make(config).train(network, inputs, labels, how)
    _keep(config, network, server_round, "end")
    metrics = MetricRecord({"num-examples": len(inputs), "train-loss": loss})
    arrays = ArrayRecord(cast(Any, network.blocks.state_dict()))
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
@as_received
def evaluate(message: Message, context: Context) -> Message:
    """Score the averaged model honestly on the participant's own evaluation examples."""
    config = _config(context)
    network = _network(config, message)
    _keep(config, network, round_of(message) + 1, "start")
    inputs, labels = _examples(config, config.evaluation, "evaluation")
    network.blocks.eval()
    with torch.inference_mode():
        answers = [network.blocks(part) for part in torch.split(torch.from_numpy(inputs), _EVALUATION_BATCH)]
    scores = torch.cat(answers).log_softmax(1)
    metrics = MetricRecord(
        {
            "num-examples": len(inputs),
            "evaluation-loss": float(-scores[torch.arange(len(labels)), torch.from_numpy(labels)].mean()),
            "evaluation-accuracy": float((scores.argmax(1).numpy() == labels).mean()),
        }
    )
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _keep(config: ParticipantConfig, network: Network, server_round: int, moment: Moment) -> None:
    """Save a copy of the weights that it received or sent, where it has no link on which the attack could read them."""
    if config.record is not None:
        save_weights(network.blocks, kept_file(config.record, server_round, moment))


def _config(context: Context) -> ParticipantConfig:
    torch.set_num_threads(1)
    named = context.node_config.get("config")
    if not named:
        raise ConfigError("""config: start the node with --node-config 'config="/…/client-0/config.json"'""")
    return read_config(Path(str(named)), ParticipantConfig)


def _network(config: ParticipantConfig, message: Message) -> Network:
    """Return the network with the message's global weights."""
    network = config.model.network()
    try:
        network.blocks.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    except RuntimeError as error:
        raise ConfigError(f"model: the global model does not fit {config.model.name} in federated mode") from error
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
