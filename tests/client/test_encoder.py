"""The mobile stage against a real head: split training is the training of the whole network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch.nn.functional import cross_entropy

from client.config import HeadConfig
from client.examples import Floats, Labels
from server.head import RunningHead
from wireleak.common.head.encoder import predict_split, predict_whole, score, train_split
from wireleak.common.head.link import HeadError, HeadStream, connect
from wireleak.common.models import ModelConfig, Network, build
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

HOW = Training(ClientPlan(epochs=2, batch=16, learning_rate=0.002), (3, 1))


def network() -> Network:
    return build("strided28", (1, 28, 28), 3, 5)


def model(**changes: Any) -> ModelConfig:
    fields = {"name": "strided28", "input_shape": (1, 28, 28), "classes": 3, "cut": 2, "seed": 5}
    return ModelConfig.model_validate(fields | changes)


def test_split_training_is_training_of_the_whole_network(
    head: RunningHead, where: HeadConfig, shard: tuple[Floats, Labels]
) -> None:
    """Oracle: torch's own autograd through both stages, in one process, with Adam on all weights."""
    inputs, labels = shard
    whole = network()
    optimiser = torch.optim.Adam(whole.blocks.parameters(), lr=0.002)
    losses, sizes = [], []
    for rows in HOW.batches(len(inputs)):
        loss = cross_entropy(whole.blocks(torch.from_numpy(inputs[rows])), torch.from_numpy(labels[rows]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        sizes.append(len(rows))

    encoder, _ = network().split(2)
    with connect(where, model()) as stub:
        mean = train_split(encoder, stub, inputs, labels, HOW)
    assert mean == pytest.approx(np.average(losses, weights=sizes), rel=1e-5)
    got = encoder.state_dict() | head.stage.head.state_dict()
    torch.testing.assert_close(got, dict(whole.blocks.state_dict()), rtol=1e-4, atol=1e-6)


def test_federated_training_is_that_too(shard: tuple[Floats, Labels]) -> None:
    inputs, labels = shard
    whole, twin = network().blocks, network().blocks
    mean = train_whole(whole, inputs, labels, HOW)
    optimiser = torch.optim.Adam(twin.parameters(), lr=0.002)
    losses = []
    for rows in HOW.batches(len(inputs)):
        loss = cross_entropy(twin(torch.from_numpy(inputs[rows])), torch.from_numpy(labels[rows]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append((loss.item(), len(rows)))
    means, sizes = np.transpose(losses)
    assert mean == pytest.approx(np.average(means, weights=sizes), rel=1e-6)
    torch.testing.assert_close(dict(whole.state_dict()), dict(twin.state_dict()))


def test_every_epoch_sees_every_example_once_in_another_order() -> None:
    rows = list(HOW.batches(50))
    epochs = [np.concatenate(rows[:4]), np.concatenate(rows[4:])]
    assert [len(batch) for batch in rows[:4]] == [16, 16, 16, 2]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert all(np.array_equal(a, b) for a, b in zip(rows, HOW.batches(50), strict=True))
    other = Training(ClientPlan(epochs=2, batch=16, learning_rate=0.002), (3, 2))
    assert not np.array_equal(np.concatenate(list(other.batches(50))[:4]), epochs[0])


@pytest.mark.parametrize("batch", [1, 7, 50, 64])
def test_predictions_come_in_the_order_of_the_inputs(
    where: HeadConfig, shard: tuple[Floats, Labels], batch: int
) -> None:
    inputs, _ = shard
    encoder, _ = network().split(2)
    with connect(where, model()) as stub:
        got = predict_split(encoder, stub, inputs, 3, batch)
    np.testing.assert_allclose(got, predict_whole(network().blocks, inputs), rtol=1e-4, atol=1e-6)


def test_score_is_scikit_learn_s(shard: tuple[Floats, Labels]) -> None:
    inputs, labels = shard
    probabilities = predict_whole(network().blocks, inputs)
    loss, right = score(probabilities, labels)
    assert loss == pytest.approx(log_loss(labels, probabilities, labels=[0, 1, 2]), rel=1e-5)
    assert right.mean() == accuracy_score(labels, probabilities.argmax(1))


def test_a_mismatch_is_told_before_any_data(where: HeadConfig, start_head: Any) -> None:
    with (
        pytest.raises(HeadError, match=r"cut: the head serves cut 2 of strided28; this device asked for cut 1$"),
        connect(where, model(cut=1)),
    ):
        pytest.fail("connected")
    with (
        pytest.raises(HeadError, match=r"classes: the head has 3, this device expects 4"),
        connect(where, model(classes=4)),
    ):
        pytest.fail("connected")


def test_no_head_no_network_no_certificate(tmp_path: Path) -> None:
    with (
        pytest.raises(HeadError, match=r"head at 127.0.0.1:1: UNAVAILABLE: "),
        connect(HeadConfig(address="127.0.0.1:1"), model()),
    ):
        pytest.fail("connected")
    secured = HeadConfig.model_validate({"address": "127.0.0.1:1", "security": {"ca": str(tmp_path / "no.pem")}})
    with pytest.raises(HeadError, match=r"head.security: .*no.pem"), connect(secured, model()):
        pytest.fail("connected")


def test_the_head_s_refusal_reaches_the_device(where: HeadConfig, shard: tuple[Floats, Labels]) -> None:
    encoder, _ = network().split(2)
    with (
        pytest.raises(HeadError, match=r"INVALID_ARGUMENT: activation.data: holds NaN"),
        connect(where, model()) as stub,
    ):
        train_split(encoder, stub, np.full((4, 1, 28, 28), np.nan, np.float32), shard[1][:4], HOW)


class PlayedHead:
    """Answers every training message alike, whatever it holds."""

    def __init__(self, answer: pb.TrainResponse) -> None:
        self.answer = answer

    def Train(self, requests: Any) -> Any:  # noqa: N802
        class Call:
            def __iter__(self) -> Any:
                return self

            def __next__(call) -> pb.TrainResponse:  # noqa: N805
                next(requests)
                return self.answer

            def cancel(self) -> None:
                pass

        return Call()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            pb.TrainResponse(activation_gradient=encode_tensor(np.zeros((1, 2), np.float32))),
            "activation_gradient.shape",
        ),
        (
            pb.TrainResponse(activation_gradient=encode_tensor(np.full((16, 32, 7, 7), np.nan, np.float32))),
            "activation_gradient.data",
        ),
        (pb.TrainResponse(sequence=4), "sequence: the head answered 4 where 0"),
    ],
)
def test_a_broken_gradient_never_reaches_the_encoder(shard: tuple[Floats, Labels], answer: Any, message: str) -> None:
    encoder, _ = network().split(2)
    with pytest.raises((HeadError, ValueError), match=message):
        train_split(encoder, cast(Any, PlayedHead(answer)), *shard, HOW)
    torch.testing.assert_close(encoder.state_dict(), network().split(2)[0].state_dict(), rtol=0, atol=0)


def test_a_stream_that_ends_early_is_an_error() -> None:
    method = cast(Any, lambda requests: Ended())
    with (
        pytest.raises(HeadError, match="ended the stream"),
        HeadStream[pb.PredictRequest, pb.PredictResponse](method) as stream,
    ):
        stream.ask(pb.PredictRequest())


class Ended:
    def __next__(self) -> Any:
        raise StopIteration

    def cancel(self) -> None:
        pass
