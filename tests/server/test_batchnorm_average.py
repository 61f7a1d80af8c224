"""Averaging networks with BatchNorm: running statistics are averaged, and the count of batches stays an integer."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from torch import nn

from server.guard import TRAIN_METRICS, Expected, check, usable
from server.updates import with_dtypes_of

SIZES = (10, 30)


def trained(seed: int, batches: int) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    for _ in range(batches):
        network(torch.randn(8, 3) + seed)
    return network


def record(network: nn.Module) -> ArrayRecord:
    return ArrayRecord(cast(Any, network.state_dict()))


def reply(network: nn.Module, size: int) -> Message:
    metrics = MetricRecord({"num-examples": size, "train-loss": 0.5})
    return Message(
        RecordDict({"arrays": record(network), "metrics": metrics}), reply_to=Message(RecordDict(), 1, "train")
    )


def test_the_average_is_a_model_that_the_next_round_accepts() -> None:
    clients = [trained(1, 4), trained(2, 9)]
    model = record(clients[0])
    replies = [reply(client, size) for client, size in zip(clients, SIZES, strict=True)]
    flowers, _ = FedAvg().aggregate_train(1, replies)
    assert flowers is not None
    averaged = with_dtypes_of(model, flowers)

    states = [client.state_dict() for client in clients]
    for name, array in averaged.items():
        want = np.average([state[name].numpy() for state in states], axis=0, weights=SIZES)
        assert array.dtype == str(states[0][name].numpy().dtype)
        np.testing.assert_allclose(array.numpy(), np.rint(want) if "num_batches" in name else want, rtol=1e-6)
    assert int(averaged["1.num_batches_tracked"].numpy()) == 8  # (10 * 4 + 30 * 9) / 40 = 7.75

    again = trained(3, 1)
    again.load_state_dict(averaged.to_torch_state_dict())
    good, dropped = usable({7: reply(again, 10)}, partial(check, Expected(TRAIN_METRICS, averaged)))
    assert list(good) == [7] and not dropped
    # Without it, the global model is float64 where every honest client answers int64.
    _, refused = usable({7: reply(again, 10)}, partial(check, Expected(TRAIN_METRICS, flowers)))
    assert "num_batches_tracked" in refused[7]
