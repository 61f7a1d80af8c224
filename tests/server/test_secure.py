"""Secure aggregation goes on without a client whose replies break the protocol, and names it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from flwr.app import Context, Error, Message, MetricRecord, RecordDict
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.serverapp import Grid
from safetensors.numpy import load_file
from torch import nn

from client.secure import train_secure
from server.config import ServerConfig
from server.rounds import RoundError
from server.secure import SecureRounds
from server.strategies import strategy

Spoil = Callable[[Any], None]


def trains(network: nn.Module, server_round: int) -> tuple[float, int]:
    for value in network.parameters():
        value.data += 0.25
    return 0.5, 10


class MaskedClients:
    """Nodes 1 to 4 speak SecAgg+; a stage's replies of node 4 are spoilt."""

    def __init__(self, config: ServerConfig, stage: str = "", spoil: Spoil | None = None) -> None:
        self._contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in range(1, 5)}
        self._config, self._stage, self._spoil = config, stage, spoil
        self._replies: dict[str, Message] = {}
        self.stages: list[str] = []

    def get_node_ids(self) -> list[int]:
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        return [self._answer(message) for message in messages]

    def pull_messages(self, idents: Iterable[str]) -> list[Message]:
        return [self._replies.pop(ident) for ident in idents if ident in self._replies]

    def _answer(self, message: Message) -> str:
        node = message.metadata.dst_node_id
        ident = f"{node} {len(self.stages)}"
        message.metadata.__dict__["_message_id"] = ident
        if message.metadata.message_type == "evaluate":
            scores = MetricRecord({"num-examples": 10, "evaluation-loss": 0.5, "evaluation-accuracy": 0.5})
            self._replies[ident] = Message(RecordDict({"metrics": scores}), reply_to=message)
            return ident
        # All nodes get one content, and the client takes items out of it.
        message.content = deepcopy(message.content)
        stage = str(message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE])
        self.stages.append(stage)
        try:
            reply = train_secure(message, self._contexts[node], self._config.model.network().blocks, trains)
            if node == 4 and stage == self._stage and self._spoil is not None:
                self._spoil(reply.content)
        except Exception as error:
            reply = Message(Error(1, str(error)), reply_to=message)
        self._replies[ident] = reply
        return ident


def answer(content: Any) -> Any:
    return content.config_records[RECORD_KEY_CONFIGS]


def replaced(key: str, value: Any) -> Spoil:
    return lambda content: answer(content).__setitem__(key, value)


def encoded(*arrays: np.ndarray[Any, Any]) -> list[bytes]:
    files = [BytesIO() for _ in arrays]
    for file, array in zip(files, arrays, strict=True):
        np.save(file, array)
    return [file.getvalue() for file in files]


def outside(content: Any) -> None:
    masked = answer(content)[Key.MASKED_PARAMETERS]
    masked[0] = encoded(np.array([-1]))[0]


def many(content: Any) -> None:
    content.metric_records["fitres.num_examples"]["num_examples"] = 1 << 62


def nan(content: Any) -> None:
    content.config_records["fitres.metrics"]["train-loss"] = float("nan")


def other_shape(content: Any) -> None:
    answer(content)[Key.MASKED_PARAMETERS][1] = encoded(np.zeros(3, np.int64))[0]


BAD: dict[str, tuple[str, Spoil, str]] = {
    "no record": (Stage.SETUP, lambda content: content.clear(), "holds no record called 'secaggplus_configs'"),
    "no key": (Stage.SETUP, replaced(Key.PUBLIC_KEY_1, b"x"), "pk1 is no public key"),
    "key twice": (
        Stage.SETUP,
        lambda content: answer(content).update({Key.PUBLIC_KEY_2: answer(content)[Key.PUBLIC_KEY_1]}),
        "pk2 is a key that was sent before",
    ),
    "shares for others": (Stage.SHARE_KEYS, replaced(Key.DESTINATION_LIST, [1, 2, 9]), "dsts does not name the 3"),
    "huge shares": (Stage.SHARE_KEYS, replaced(Key.CIPHERTEXT_LIST, [bytes(1 << 20)] * 3), "ctxts is no string of 1"),
    "few shares": (Stage.SHARE_KEYS, replaced(Key.CIPHERTEXT_LIST, [b"x"]), "ctxts holds no 3 shares"),
    "no arrays": (Stage.COLLECT_MASKED_VECTORS, replaced(Key.MASKED_PARAMETERS, [b""]), "masked_params holds no"),
    "outside": (Stage.COLLECT_MASKED_VECTORS, outside, "masked array 0 holds numbers outside 0..4294967295"),
    "shape": (Stage.COLLECT_MASKED_VECTORS, other_shape, "masked array 1 is ((3,), 'int64') where"),
    "2^62 examples": (Stage.COLLECT_MASKED_VECTORS, many, "metric num-examples is 4611686018427387904, but"),
    "NaN loss": (Stage.COLLECT_MASKED_VECTORS, nan, "metric train-loss is no finite number"),
    "shares of masks": (Stage.UNMASK, replaced(Key.SHARE_LIST, []), "shares holds no 4 shares"),
}


def run(settings: dict[str, Any], stage: str = "", spoil: Spoil | None = None, threshold: float = 0.7) -> Any:
    options = {"threshold": threshold}
    plan = {"mode": "federated", "rounds": 1, "timeout": 5, "strategy": {"name": "secagg", "options": options}}
    registered = [{"train": 10, "evaluation": 10}] * 4
    config = ServerConfig.model_validate(settings | {"clients": 4, "plan": plan, "registered": registered})
    grid = MaskedClients(config, stage, spoil)
    rule = strategy(config.plan.strategy, 4)
    SecureRounds(config, rule, cast(Grid, grid), Context(1, 0, {}, RecordDict(), {}), [1, 2, 3, 4]).run()
    return json.loads(config.history.read_text())["rounds"][0]


def moved(settings: dict[str, Any]) -> np.ndarray[Any, Any]:
    start = ServerConfig.model_validate(settings).model.network().blocks.state_dict()["0.0.bias"].numpy()
    return cast(
        "np.ndarray[Any, Any]", load_file(Path(settings["checkpoints"]) / "encoder-1.safetensors")["0.0.bias"] - start
    )


@pytest.mark.parametrize("kind", BAD)
def test_a_client_that_breaks_the_protocol_is_left_out_and_named(settings: dict[str, Any], kind: str) -> None:
    stage, spoil, reason = BAD[kind]
    entry = run(settings, stage, spoil)
    (dropped,) = entry["dropped"]
    assert (dropped["client"], dropped["phase"]) == (4, "train")
    assert dropped["reason"].startswith(reason)
    np.testing.assert_allclose(moved(settings), 0.25, atol=1e-3)


def test_without_enough_clients_the_run_ends_with_one_line(settings: dict[str, Any]) -> None:
    line = r"^round 1: too few clients are left for secure aggregation; client 4: pk1 is no public key$"
    with pytest.raises(RoundError, match=line):
        run(settings, *BAD["no key"][:2], threshold=1.0)


def test_wrong_shares_of_the_right_form_end_the_run_with_one_line(settings: dict[str, Any]) -> None:
    """A share cannot be checked: the protocol notices only that the secret does not come out."""

    def lies(content: Any) -> None:
        answer(content)[Key.SHARE_LIST] = [b"\1" * 20] * 4

    with pytest.raises(RoundError, match=r"^round 1: the shares of masks do not fit together \(\w+\); "):
        run(settings, Stage.UNMASK, lies, threshold=1.0)
