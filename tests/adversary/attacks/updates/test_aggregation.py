"""The attacker's imitation of a server beside Flower's own strategies."""

from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    FedMedian,
    FedTrimmedAvg,
    Krum,
)
from flwr.supercore.task_identity import TaskIdentity

from adversary.attacks.updates.aggregation import Aggregation, join

RNG = np.random.default_rng(0)
STRATEGIES = {
    "mean": FedAvg(),
    "median": FedMedian(),
    "trimmed-mean": FedTrimmedAvg(beta=0.25),
    "krum": Krum(num_malicious_nodes=1),
}


def _record(arrays: Any) -> Any:
    return ArrayRecord({name: torch.from_numpy(value) for name, value in arrays.items()})


@pytest.mark.parametrize("rule", STRATEGIES)
@pytest.mark.parametrize("participants", [3, 4, 7])
def test_flower_makes_the_same_of_the_same_updates(rule: Any, participants: int) -> None:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    updates = [
        {"a": RNG.standard_normal((4, 3)).astype(np.float32), "b": RNG.standard_normal(5).astype(np.float32)}
        for _ in range(participants)
    ]
    replies = []
    for one in updates:
        asked = Message(RecordDict(), 1, "train")
        content = RecordDict({"arrays": _record(one), "metrics": MetricRecord({"num-examples": 8})})
        replies.append(Message(content, reply_to=asked))
    theirs, _ = STRATEGIES[rule].aggregate_train(1, replies)
    assert theirs is not None
    ours = join(updates, Aggregation(rule=rule))
    assert list(ours) == ["a", "b"]
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name].numpy(), rtol=1e-5, atol=1e-6)


def test_krum_compares_with_all_but_the_malicious_and_two() -> None:
    """Of five with one malicious, two neighbours count; with three the choice would be another."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    updates = [{"a": np.array([at], np.float32)} for at in (10.0, 10.1, 10.2, 12.0, 13.0)]
    assert join(updates, Aggregation(rule="krum", malicious=1))["a"][0] == np.float32(10.1)
    replies = []
    for one in updates:
        content = RecordDict({"arrays": _record(one), "metrics": MetricRecord({"num-examples": 8})})
        replies.append(Message(content, reply_to=Message(RecordDict(), 1, "train")))
    theirs, _ = Krum(num_malicious_nodes=1).aggregate_train(1, replies)
    assert theirs is not None and theirs["a"].numpy()[0] == np.float32(10.1)


@pytest.mark.parametrize("norm", [0.5, 3.0, 100.0])
def test_norm_clipping_is_flowers_own(norm: float) -> None:
    """Lengths from 1 to 4: a norm of 0.5 shortens all updates, 3 the longest, 100 none."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    start = {"a": RNG.standard_normal((4, 3)).astype(np.float32), "b": RNG.standard_normal(5).astype(np.float32)}
    updates = []
    for length in (1.0, 2.0, 4.0):
        drawn = {name: RNG.standard_normal(value.shape) for name, value in start.items()}
        whole = np.sqrt(sum(np.square(value).sum() for value in drawn.values()))
        updates.append({name: (length * value / whole).astype(np.float32) for name, value in drawn.items()})
    server = DifferentialPrivacyServerSideFixedClipping(FedAvg(), 0.0, norm, 3)
    server.current_arrays = _record(start)
    replies = []
    for one in updates:
        sent = _record({name: start[name] + value for name, value in one.items()})
        content = RecordDict({"arrays": sent, "metrics": MetricRecord({"num-examples": 8})})
        replies.append(Message(content, reply_to=Message(RecordDict(), 1, "train")))
    theirs, _ = server.aggregate_train(1, replies)
    ours = join(updates, Aggregation(rule="norm-clipping", clipping_norm=norm))
    assert theirs is not None and list(ours) == ["a", "b"]
    for name, value in ours.items():
        np.testing.assert_allclose(start[name] + value, theirs[name].numpy(), rtol=1e-5, atol=1e-6)
    factors = np.minimum(1, norm / np.array([1.0, 2.0, 4.0]))
    expected = np.mean([factor * one["a"] for factor, one in zip(factors, updates, strict=True)], 0)
    np.testing.assert_allclose(ours["a"], expected, rtol=1e-5)
