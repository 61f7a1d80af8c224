"""The rounds of training: Flower's strategy aggregates, and each round ends with a checkpoint."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from safetensors import SafetensorError

from server.admin import HeadAdmin, HeadAdminError
from server.checkpoints import CheckpointError, encoder_path, forget, head_path, newest
from server.config import ServerConfig
from server.exchange import bound_replies, exchange, wait_for_nodes
from server.guard import EVALUATION_METRICS, MOST_EXAMPLES, TRAIN_METRICS, Expected, check, usable
from server.updates import record, standing, take_extras, with_dtypes_of
from wireleak.common.files import write_atomically
from wireleak.common.models import load_arrays, load_weights, save_arrays

logger = logging.getLogger("flwr")


class RoundError(RuntimeError):
    """A round failed; the checkpoints of earlier rounds are kept."""


class Trained(NamedTuple):
    """Result of a round's training: new model, mean loss, client metrics and participants.

    `standing` compares each update with the others, where the server sees single updates.
    """

    averaged: ArrayRecord
    loss: float | None
    extras: dict[str, list[float]]
    nodes: list[int]
    dropped: dict[int, str]
    standing: dict[int, dict[str, float]]


class Rounds:
    """Federated rounds over encoders (split mode) or whole networks (federated mode).

    McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data", with the
    averaging itself left to Flower's strategy; in split mode the head is shared and trained by every client's
    batches, as they come or in turn (Thapa et al. 2022, "SplitFed", its second variant).

    Parameters
    ----------
    config : ServerConfig
        What to train, and where checkpoints and history go.
    strategy : Strategy
        Configures messages and aggregates replies.
    grid : Grid
        Flower's link to the clients.
    order : sequence of int
        Their nodes, in the order in which updates are joined; others follow by their number.
    """

    def __init__(self, config: ServerConfig, strategy: Strategy, grid: Grid, order: Sequence[int] = ()) -> None:
        self._config = config
        self._places = {node: place for place, node in enumerate(order)}
        self._registered = dict(zip(order, config.registered, strict=False))
        self._strategy = strategy
        self._grid = grid
        self._lost: set[int] = set()
        self._head = _head_admin(config)

    def run(self) -> None:
        """Train the rounds after the newest complete checkpoint.

        Raises
        ------
        RoundError, TimeoutError
            No client is left, or none sent a usable update.
        CheckpointError
            The checkpoint does not fit the model.
        """
        config = self._config
        done = newest(config.checkpoints)
        arrays = self._initial_arrays(done)
        history = _History(config.history, config.plan.mode, done)
        self._load_head(done)
        bound_replies(sum(len(array.data) for array in arrays.values()))
        if done < config.plan.rounds:
            wait_for_nodes(self._grid, config.clients, config.plan.timeout)
        for server_round in range(done + 1, config.plan.rounds + 1):
            began = time.monotonic()
            arrays, entry = self._round(server_round, arrays)
            line = history.add(entry | {"seconds": round(time.monotonic() - began, 3)})
            self._save(server_round, arrays)
            logger.info("round %d of %d: %s", server_round, config.plan.rounds, line)
        if self._head:
            self._head.close()

    def _round(self, server_round: int, arrays: ArrayRecord) -> tuple[ArrayRecord, dict[str, Any]]:
        wait_for_nodes(self._grid, 1, self._config.plan.timeout)
        trained = self._train(server_round, arrays)
        evaluated, evaluation_drops = self._evaluate(server_round, trained.averaged)
        evaluation = self._strategy.aggregate_evaluate(server_round, evaluated.values()) if evaluated else None
        return trained.averaged, {
            "round": server_round,
            "train_loss": trained.loss,
            "evaluation_loss": _metric(evaluation, "evaluation-loss"),
            "evaluation_accuracy": _metric(evaluation, "evaluation-accuracy"),
            "client_metrics": trained.extras,
            "standing": trained.standing,
            "trained": trained.nodes,
            "evaluated": sorted(evaluated),
            "dropped": [
                {"client": node, "phase": phase, "reason": reason}
                for phase, drops in (("train", trained.dropped), ("evaluate", evaluation_drops))
                for node, reason in drops.items()
            ]
            # Its node is only what the client called itself, so the update of that node is judged by itself.
            + [{"client": node, "phase": "head", "reason": reason} for node, reason in self._refusals()],
        }

    def _train(self, server_round: int, arrays: ArrayRecord) -> Trained:
        settings = ConfigRecord()
        trained, dropped = self._ask(
            self._strategy.configure_train(server_round, arrays, settings, self._grid),
            Expected(TRAIN_METRICS, arrays, partial(self._most, "train")),
        )
        if not trained:
            raise RoundError(f"round {server_round}: no client sent a usable update; {reasons(dropped)}")
        # Copied first: Flower's median and trimmed mean remove the arrays from the replies.
        updates = {node: ArrayRecord(dict(reply.content.array_records["arrays"])) for node, reply in trained.items()}
        extras = take_extras(trained)
        averaged, train = self._strategy.aggregate_train(server_round, trained.values())
        if averaged is None:
            named = type(self._strategy).__name__
            raise RoundError(f"round {server_round}: {named} made no average of {len(trained)}; {reasons(dropped)}")
        averaged = with_dtypes_of(arrays, averaged)
        if self._config.record is not None:
            record(self._config.record, server_round, (arrays, averaged), updates)
        return Trained(
            averaged, _metric(train, "train-loss"), extras, sorted(trained), dropped, standing(arrays, updates)
        )

    def _evaluate(self, server_round: int, averaged: ArrayRecord) -> tuple[dict[int, Message], dict[int, str]]:
        if server_round % self._config.plan.evaluate_every and server_round < self._config.plan.rounds:
            return {}, {}
        messages = self._strategy.configure_evaluate(server_round, averaged, ConfigRecord(), self._grid)
        return self._ask(messages, Expected(EVALUATION_METRICS, None, partial(self._most, "evaluation")))

    def _place(self, node: int) -> tuple[int, int]:
        """Sort nodes: sums of floats depend on their order in the last digits."""
        return self._places.get(node, len(self._places)), node

    def _most(self, phase: str, node: int) -> int:
        """Return the most examples that a node's reply may count for; a node that restarted has another number."""
        known = self._registered.get(node)
        counts = [getattr(each, phase) for each in ([known] if known else self._config.registered)]
        return max(counts, default=MOST_EXAMPLES)

    def _ask(self, messages: Any, expected: Expected) -> tuple[dict[int, Message], dict[int, str]]:
        # A client that timed out in one phase must not delay every later phase. Flower
        # lists a killed node as online for up to a minute. Restarted, it comes back under another id.
        present = [message for message in messages if message.metadata.dst_node_id not in self._lost]
        present.sort(key=lambda message: self._place(message.metadata.dst_node_id))
        plan, waiting_for = self._config.plan, None
        if self._head is not None and expected.arrays is not None and plan.mode == "split" and plan.order == "fixed":
            # Half of the time, so that a round ends well without the client that is waited for.
            self._head.begin([message.metadata.dst_node_id for message in present], plan.timeout / 2)
            waiting_for = self._head.expect
        replies = exchange(self._grid, present, plan.timeout, pack=plan.pack, waiting_for=waiting_for)
        self._lost |= {node for node, reply in replies.items() if reply is None}
        good, dropped = usable(replies, partial(check, expected))
        report(dropped)
        return good, dropped

    def _initial_arrays(self, done: int) -> ArrayRecord:
        config = self._config
        network = config.model.network()
        module = network.split(config.model.cut)[0] if config.plan.mode == "split" else network.blocks
        if not done and config.initial is not None:
            try:
                load_weights(network.blocks, config.initial)
            except (OSError, RuntimeError, SafetensorError) as error:
                raise CheckpointError.of(config.initial, config.model) from error
        if done:
            paths = [encoder_path(config.checkpoints, done)]
            if config.plan.mode == "federated":
                paths.append(head_path(config.checkpoints, done))
            try:
                found = {name: torch.from_numpy(array) for path in paths for name, array in load_arrays(path).items()}
                module.load_state_dict(found)
            except (OSError, RuntimeError, SafetensorError) as error:
                raise CheckpointError.of(paths[0], config.model) from error
        return ArrayRecord(cast(Any, module.state_dict()))

    def _refusals(self) -> list[tuple[int, str]]:
        """Return the streams of training clients that the head refused in this round."""
        return self._head.refusals() if self._head is not None and self._config.plan.mode == "split" else []

    def _save(self, server_round: int, arrays: ArrayRecord) -> None:
        """Write both stages; a round is complete when both files exist."""
        config = self._config
        encoder, _ = config.model.network().split(config.model.cut)
        values = {name: array.numpy() for name, array in arrays.items()}
        of_encoder = {name: values.pop(name) for name in encoder.state_dict()}
        save_arrays(of_encoder, encoder_path(config.checkpoints, server_round))
        if config.plan.mode == "federated":
            save_arrays(values, head_path(config.checkpoints, server_round))
            self._load_head(server_round)
        elif self._head:
            self._head.save(server_round)
        forget(config.checkpoints, server_round)

    def _load_head(self, server_round: int) -> None:
        """Make the head serve a round's weights."""
        if self._head is None:
            return
        try:
            self._head.load(server_round)
        except HeadAdminError as error:
            if self._config.plan.mode == "split":
                raise
            # Federated training does not use the head; it loads the checkpoint when it restarts.
            logger.warning("%s", error)


def report(dropped: Mapping[int, str]) -> None:
    """Log each client whose reply was left out."""
    for node, reason in dropped.items():
        logger.warning("client %d dropped: %s", node, reason)


def reasons(dropped: Mapping[int, str], most: int = 4) -> str:
    """Say in one line why replies were left out."""
    shown = [f"client {node}: {reason}" for node, reason in list(dropped.items())[:most]]
    return "; ".join(shown + [f"{len(dropped) - most} more"] * (len(dropped) > most)) or "no client was asked"


def _head_admin(config: ServerConfig) -> HeadAdmin | None:
    """Connect to the head process: split training needs it, federated training updates it if it runs."""
    try:
        return HeadAdmin(config.ready)
    except HeadAdminError:
        if config.plan.mode == "split":
            raise
        return None


class _History:
    """The file that describes every round. Each round is encoded once, because there may be thousands."""

    def __init__(self, path: Path, mode: str, done: int) -> None:
        self._path = path
        self._mode = mode
        rounds = json.loads(path.read_text())["rounds"] if done and path.exists() else []
        self._lines = [json.dumps(entry) for entry in rounds if entry["round"] <= done]

    def add(self, entry: dict[str, Any]) -> str:
        """Add a round, write the file, and return the round as JSON."""
        self._lines.append(json.dumps(entry))
        rounds = ",\n".join(self._lines)
        write_atomically(self._path, f'{{"mode": {json.dumps(self._mode)}, "rounds": [\n{rounds}\n]}}\n'.encode())
        return self._lines[-1]


def _metric(record: MetricRecord | None, name: str) -> float | None:
    return None if record is None else float(cast(float, record[name]))
