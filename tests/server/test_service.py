"""The head over real gRPC on loopback: bounds, order, races, statuses."""

from __future__ import annotations

import threading
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from server.head import RunningHead
from wireleak.common.models import build
from wireleak.common.wire import decode_tensor, encode_tensor, open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub


def test_describe_tells_what_the_head_expects(stub: SplitHeadStub) -> None:
    description = stub.Describe(pb.DescribeRequest())
    assert description.model == "strided28"
    assert description.cut == "2"
    assert list(description.activation_shape) == [32, 7, 7]
    assert (description.classes, description.version, description.max_batch) == (3, "v1", 64)
    assert description == stub.Describe(pb.DescribeRequest(model="strided28", cut="2", activation_shape=[32, 7, 7]))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"cut": "1"}, "cut: the head serves cut 2 of strided28; this device asked for cut 1"),
        ({"model": "conv1d"}, "model: the head serves cut 2 of strided28; this device asked for conv1d"),
        (
            {"model": "/home/ann/strided28"},
            "model: this device's encoder was exported by an older wireleak, which called it by its file's whole path; "
            "export it again with wireleak export",
        ),
        (
            {"activation_shape": [16, 14, 14]},
            "activation_shape: the head serves cut 2 of strided28, [32, 7, 7]; this device asked for [16, 14, 14]",
        ),
    ],
)
def test_a_mismatch_fails_before_any_data(
    stub: SplitHeadStub, failure: Any, asked: dict[str, Any], message: str
) -> None:
    assert failure(lambda: stub.Describe(pb.DescribeRequest(**asked))) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        message,
    )


def test_a_training_step_is_torch_s(stub: SplitHeadStub, head: RunningHead, train_request: Any) -> None:
    _, reference = build("strided28", (1, 28, 28), 3, 5).split(2)
    optimiser = torch.optim.Adam(reference.parameters(), lr=0.002)
    requests = [train_request(i, seed=i) for i in range(5)]
    for request, answer in zip(requests, stub.Train(iter(requests)), strict=True):
        activation = torch.from_numpy(decode_tensor(request.activation).copy()).requires_grad_()
        loss = cross_entropy(reference(activation), torch.from_numpy(decode_tensor(request.label).copy()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert answer.loss == pytest.approx(loss.item(), rel=1e-6)
        assert activation.grad is not None
        gradient = np.asarray(decode_tensor(answer.activation_gradient), np.float32)
        np.testing.assert_allclose(gradient, activation.grad.numpy(), rtol=1e-5, atol=1e-9)
    for got, wanted in zip(head.stage.head.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(got, wanted)


def test_predictions_are_probabilities_in_order_and_change_nothing(stub: SplitHeadStub, head: RunningHead) -> None:
    _, reference = build("strided28", (1, 28, 28), 3, 5).split(2)
    activations = np.random.default_rng(0).random((6, 5, 32, 7, 7), dtype=np.float32)
    requests = (pb.PredictRequest(sequence=i, activation=encode_tensor(a)) for i, a in enumerate(activations))
    answers = list(stub.Predict(requests))
    assert [answer.sequence for answer in answers] == list(range(6))
    with torch.no_grad():
        wanted = reference(torch.from_numpy(activations.reshape(30, 32, 7, 7))).softmax(1)
    got = np.concatenate([decode_tensor(answer.prediction) for answer in answers])
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(head.stage.head.state_dict(), reference.state_dict(), rtol=0, atol=0)


def test_half_precision_activations_are_accepted(stub: SplitHeadStub) -> None:
    activation = np.random.default_rng(0).random((2, 32, 7, 7)).astype(np.float16)
    (half,) = stub.Predict(iter([pb.PredictRequest(activation=encode_tensor(activation))]))
    (full,) = stub.Predict(iter([pb.PredictRequest(activation=encode_tensor(activation.astype(np.float32)))]))
    assert half == full


def test_many_clients_at_once_one_step_a_batch(stub: SplitHeadStub, head: RunningHead, train_request: Any) -> None:
    clients, batches = 32, 6
    together = threading.Barrier(clients)
    sequences: dict[int, list[int]] = {}

    def client(number: int) -> None:
        def requests() -> Any:
            yield train_request(0, seed=number)
            # The first answer proves that every stream is open before any goes on.
            together.wait(30)
            yield from (train_request(i, seed=number * 100 + i) for i in range(1, batches))

        with open_channel(f"127.0.0.1:{head.port}") as channel:
            sequences[number] = [answer.sequence for answer in SplitHeadStub(channel).Train(requests())]

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sequences == {number: list(range(batches)) for number in range(clients)}
    steps = {int(state["step"]) for state in head.stage.optimiser.state.values()}
    assert steps == {clients * batches}


def good(shape: tuple[int, ...] = (4, 32, 7, 7), fill: float = 0.5, dtype: Any = np.float32) -> pb.Tensor:
    return encode_tensor(np.full(shape, fill, dtype))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "activation unset": ({"activation": pb.Tensor()}, "activation.dtype"),
    "wrong rank": ({"activation": good((4, 1568))}, "activation.shape"),
    "scalar": ({"activation": good(())}, "activation.shape"),
    "wrong shape": ({"activation": good((4, 16, 14, 14))}, "activation.shape"),
    "empty batch": ({"activation": good((0, 32, 7, 7)), "label": encode_tensor(np.zeros(0, np.int64))}, "activation"),
    "too many": (
        {"activation": good((65, 32, 7, 7))},
        "activation.shape: a batch of 65 is over the head's limit of 64",
    ),
    "integers": ({"activation": good(dtype=np.int64)}, "activation.dtype"),
    "NaN": ({"activation": good(fill=np.nan)}, "activation.data"),
    "infinite": ({"activation": good(fill=np.inf)}, "activation.data"),
    "overflow": ({"activation": good(fill=3e38)}, "activation.data"),
    "short data": (
        {"activation": pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[4, 32, 7, 7], data=b"1234")},
        "activation.data",
    ),
    "huge claim": (
        {"activation": pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[4, 2**32 - 1, 2**32 - 1, 7], data=b"")},
        "activation.shape",
    ),
    "label unset": ({"label": pb.Tensor()}, "label.dtype"),
    "label range": ({"label": encode_tensor(np.array([0, 1, 2, 3]))}, "label.data"),
    "negative label": ({"label": encode_tensor(np.array([0, 1, 2, -1]))}, "label.data"),
    "label count": ({"label": encode_tensor(np.array([0, 1]))}, "label.shape"),
    "float labels": ({"label": good((4,))}, "label.dtype"),
    "sequence": ({"sequence": 7}, "sequence: 7 where 1 is expected"),
}


def test_bad_input_ends_that_call_alone(
    stub: SplitHeadStub, head: RunningHead, failure: Any, train_request: Any
) -> None:
    """Every kind of bad message, while one good stream goes on from before the first to after the last."""
    more = threading.Semaphore(0)
    stop = threading.Event()

    def requests() -> Any:
        sequence = 0
        while True:
            more.acquire()
            if stop.is_set():
                return
            yield train_request(sequence, seed=sequence)
            sequence += 1

    bystander = iter(stub.Train(requests()))
    for sequence, (changes, field) in enumerate(BAD.values()):
        bad = train_request(**{"sequence": 1} | changes)
        code, details = failure(lambda bad=bad: list(stub.Train(iter([train_request(0), bad]))))
        assert (code, details[: len(field)]) == (grpc.StatusCode.INVALID_ARGUMENT, field)
        assert "\n" not in details
        more.release()
        answer = next(bystander)
        assert answer.sequence == sequence
        assert np.isfinite(answer.loss)
    stop.set()
    more.release()
    assert list(bystander) == []
    assert all(torch.isfinite(parameter).all() for parameter in head.stage.head.parameters())


@pytest.mark.parametrize("kind", [kind for kind in BAD if "label" not in kind])
def test_predict_checks_as_train_does(stub: SplitHeadStub, failure: Any, kind: str) -> None:
    changes, field = BAD[kind]
    fields: dict[str, Any] = {"activation": good(), "sequence": 1}
    request = pb.PredictRequest(**fields | {k: changes[k] for k in changes if k != "label"})
    code, details = failure(lambda: list(stub.Predict(iter([pb.PredictRequest(activation=good()), request]))))
    assert (code, details[: len(field)]) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_a_federated_head_does_not_train(start_head: Any, failure: Any, train_request: Any) -> None:
    head = start_head(plan={"mode": "federated"})
    with open_channel(f"127.0.0.1:{head.port}") as channel:
        stub = SplitHeadStub(channel)
        assert len(list(stub.Predict(iter([pb.PredictRequest(activation=good())])))) == 1
        code, details = failure(lambda: list(stub.Train(iter([train_request()]))))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert details.startswith("mode: ")


def test_streams_over_the_limit_are_told_so(start_head: Any, failure: Any, train_request: Any) -> None:
    head = start_head(limits={"streams": 1})
    release = threading.Event()

    def requests() -> Any:
        yield train_request()
        release.wait(30)

    with open_channel(f"127.0.0.1:{head.port}") as channel:
        stub = SplitHeadStub(channel)
        first = iter(stub.Train(requests()))
        next(first)
        code, _ = failure(lambda: stub.Describe(pb.DescribeRequest()))
        release.set()
        assert list(first) == []
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
