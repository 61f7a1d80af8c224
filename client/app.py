"""The Flower ClientApp, with two modes for one model and one shard.

*split*: stream activations and labels to the head, and send the encoder's weights for averaging.
*federated*: train the whole network, and send its weights.
"""

from __future__ import annotations

import time
from typing import Any, cast

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from client.config import ClientConfig, HeadConfig
from client.examples import Floats, Labels, append_labels, read_examples, read_private
from client.mods import with_mods
from client.private import train_private
from client.transforms.chain import Chain
from client.transforms.registry import Batch, Scene
from wireleak.common.config import ConfigError, config_of_node, drawn
from wireleak.common.exchanged import Moment, kept_file
from wireleak.common.files import write_arrays
from wireleak.common.head.encoder import Loss, predict_split, predict_whole, score, train_split
from wireleak.common.head.link import connect
from wireleak.common.models import save_weights
from wireleak.common.models.training import Training, seed_libraries, train_whole
from wireleak.common.wire.flower import as_received, round_of

app = ClientApp()


@app.train()
@as_received
def train(message: Message, context: Context) -> Message:
    """Train on the private shard, or on this round's part of it, for the config's epochs; reply with the weights."""
    config = _config(context)
    if config.plan.secure:
        from client.secure import train_secure

        def masked(network: nn.Module, server_round: int) -> tuple[float, int]:
            seed_libraries((drawn(config.seed), server_round))
            loss, examples, _ = _train(config, network, server_round, context.node_id)
            return loss, examples

        return train_secure(message, context, config.model.network().blocks, masked)
    return with_mods(config.plan.mods, lambda message, _: _answer(config, message, context.node_id))(message, context)


def _answer(config: ClientConfig, message: Message, node: int) -> Message:
    module = _module(config, message)
    seed_libraries((drawn(config.seed), round_of(message)))
    loss, examples, extras = _train(config, module, round_of(message), node)
    metrics = MetricRecord({"num-examples": examples, "train-loss": loss, **extras})
    arrays = ArrayRecord(cast(Any, module.state_dict()))
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def _train(
    config: ClientConfig, module: nn.Module, server_round: int, node: int
) -> tuple[float, int, dict[str, float]]:
    """Train for one round; return the mean loss, the number of examples and further metrics."""
    inputs, labels = read_examples(config.train, config.model, "train", server_round)
    how = Training(config.plan, (drawn(config.seed), server_round))
    _keep(config, module, server_round, "start")
    extras: dict[str, float] = {}
    if config.plan.mode == "split":
        loss, extras = _train_split(config, module, inputs, labels, how, server_round, node)
    elif config.plan.privacy is not None:
        loss, extras["epsilon"] = train_private(module, inputs, labels, how, config.plan.privacy, rounds=server_round)
    else:
        loss = train_whole(module, inputs, labels, how)
    _keep(config, module, server_round, "end")
    return loss, len(inputs), extras


@app.evaluate()
@as_received
def evaluate(message: Message, context: Context) -> Message:
    """Score the averaged model on the client's own evaluation examples."""
    config = _config(context)
    module = _module(config, message)
    _keep(config, module, round_of(message) + 1, "start")
    inputs, labels = read_examples(config.evaluation, config.model, "evaluation")
    if config.plan.mode == "split":
        with connect(_head(config), config.model) as stub:
            chain = Chain(config.transforms, drawn(config.seed))
            size, count = config.plan.batch, config.model.classes
            probabilities = predict_split(module, stub, inputs, count, size, before=chain.before, send=chain)
    else:
        probabilities = predict_whole(module, inputs)
    loss, right = score(probabilities, labels)
    if config.answers is not None:
        write_arrays(config.answers, {"right": right})
    accuracy = float(right.mean())
    metrics = MetricRecord({"num-examples": len(inputs), "evaluation-loss": loss, "evaluation-accuracy": accuracy})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _keep(config: ClientConfig, module: nn.Module, server_round: int, moment: Moment) -> None:
    """Save a curious client's copy of the weights that it received or sent, which TLS or masks hide on the link."""
    if config.record is not None:
        save_weights(module, kept_file(config.record, server_round, moment))


def _train_split(
    config: ClientConfig,
    encoder: nn.Module,
    inputs: Floats,
    labels: Labels,
    how: Training,
    server_round: int,
    node: int,
) -> tuple[float, dict[str, float]]:
    """Train against the head; return the loss and metrics: CPU time, transform diagnostics, hijack check."""
    began = time.process_time()
    watch = own = None
    if config.watch:
        from client.watch import Watch

        watch = Watch(config.model.classes)
    if config.plan.objective == "autoencoder":
        from client.autoencoder import Autoencoder

        own = Autoencoder(encoder, config.model.input_shape, config.plan.learning_rate)
    chain = Chain(config.transforms, drawn(config.seed))
    task = (inputs, labels, how)
    loss = _loss_of(chain, config, inputs, labels, server_round) if chain.trains else None
    named = node if config.plan.order == "fixed" else None

    def see(batch: Labels, gradient: Floats) -> None:
        if config.ledger is not None:
            append_labels(config.ledger, batch)
        if watch is not None:
            watch.see(batch, gradient)

    extras: dict[str, float] = {}
    if config.plan.privacy is not None:
        from client.private_split import train_split_private
        from client.transforms.soundness import check_private

        check_private(chain.steps)
        with connect(_head(config), config.model, config.plan.privacy.noise_multiplier, named) as stub:
            mean, extras["epsilon"] = train_split_private(
                encoder,
                stub,
                *task,
                config.plan.privacy,
                rounds=server_round,
                before=chain.before,
                send=chain,
                loss=loss,
                see=see,
            )
    else:
        with connect(_head(config), config.model, node=named) as stub:
            mean = train_split(
                encoder,
                stub,
                *task,
                before=chain.before,
                send=chain,
                loss=loss,
                own_step=own.step if own else None,
                see=see,
            )
    if config.keep is not None:
        chain.keep(config.keep)
    extras["device-seconds"] = time.process_time() - began
    return mean, extras | chain.told() | (watch.verdict() if watch else {})


def _loss_of(chain: Chain, config: ClientConfig, inputs: Floats, labels: Labels, server_round: int) -> Loss:
    """Return the loss that transforms add for the encoder on each batch, with the private attributes that they need."""
    private, counts = read_private(config.train, chain.private, "train", server_round)
    activation_shape = config.model.network().activation_shape(config.model.cut)
    scene = Scene(config.model.input_shape, activation_shape, counts, config.plan.learning_rate)
    chain.prepare(scene, config.keep)
    steps = config.plan.epochs * -(-len(inputs) // config.plan.batch)

    def loss(activation: torch.Tensor, rows: np.ndarray, before: int) -> torch.Tensor | None:
        known = {name: torch.from_numpy(values[rows]) for name, values in private.items()}
        progress = (server_round - 1 + before / steps) / config.plan.rounds
        return chain.loss(
            activation, Batch(torch.from_numpy(inputs[rows]), torch.from_numpy(labels[rows]), known, progress)
        )

    return loss


def _config(context: Context) -> ClientConfig:
    torch.set_num_threads(1)
    return config_of_node(context.node_config, ClientConfig)


def _module(config: ClientConfig, message: Message) -> nn.Module:
    """Return the module that this client trains, with the message's global weights."""
    network = config.model.network()
    module = network.split(config.model.cut)[0] if config.plan.mode == "split" else network.blocks
    try:
        module.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"model: the global model does not fit cut {config.model.cut} of {config.model.name} "
            f"in {config.plan.mode} mode"
        ) from error
    return module


def _head(config: ClientConfig) -> HeadConfig:
    if config.head is None:
        raise ConfigError("head: is missing, and split mode needs it; give the head's address")
    return config.head
