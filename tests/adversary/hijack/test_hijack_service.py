"""On the wire and for the ServerApp the malicious server is the honest head, but for the gradients."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

from adversary.__main__ import app
from server.admin import HeadAdmin, HeadAdminError
from server.checkpoints import head_path
from server.head import RunningHead
from server.stage import HeadStage
from wireleak.common.models import ModelConfig, build, save_weights
from wireleak.common.wire import decode_tensor, encode_tensor, open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub

SHAPE = (32, 7, 7)
WIDE = {"name": "strided32", "input_shape": [1, 32, 32], "classes": 3, "cut": 2}


def activation(batch: int = 4, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).random((batch, *SHAPE), dtype=np.float32)


def train(**changes: Any) -> pb.TrainRequest:
    fields = {"activation": encode_tensor(activation()), "label": encode_tensor(np.array([0, 1, 2, 0]))}
    return pb.TrainRequest(**fields | changes)


def floats(tensor: pb.Tensor) -> npt.NDArray[np.float32]:
    return np.asarray(decode_tensor(tensor), np.float32)


def broken(**changes: Any) -> pb.Tensor:
    good = encode_tensor(activation())
    fields: dict[str, Any] = {"dtype": good.dtype, "shape": good.shape, "data": good.data}
    return pb.Tensor(**fields | changes)


BAD: list[tuple[str, Any]] = [
    ("Describe", pb.DescribeRequest(cut="1")),
    ("Describe", pb.DescribeRequest(model="conv1d")),
    ("Describe", pb.DescribeRequest(activation_shape=[16, 14, 14])),
    ("Train", train(sequence=4)),
    ("Train", train(activation=broken(shape=[4, 32, 7, 8]))),
    ("Train", train(activation=broken(dtype=99))),
    ("Train", train(activation=encode_tensor(np.zeros((4, 32, 49), np.float32)))),
    ("Train", train(activation=encode_tensor(np.zeros((4, *SHAPE), np.int64)))),
    ("Train", train(activation=encode_tensor(np.zeros((0, *SHAPE), np.float32)))),
    ("Train", train(activation=encode_tensor(np.zeros((65, *SHAPE), np.float32)))),
    ("Train", train(activation=encode_tensor(np.full((4, *SHAPE), np.nan, np.float32)))),
    ("Train", train(activation=encode_tensor(np.full((4, *SHAPE), 3e38, np.float32)))),
    ("Train", train(label=encode_tensor(np.array([0, 1, 2, 3])))),
    ("Train", train(label=encode_tensor(np.array([0, 1])))),
    ("Train", train(label=encode_tensor(np.zeros(4, np.float32)))),
    ("Predict", pb.PredictRequest(sequence=1, activation=encode_tensor(activation()))),
    ("Predict", pb.PredictRequest(activation=encode_tensor(np.full((4, *SHAPE), np.inf, np.float32)))),
    ("Predict", pb.PredictRequest(activation=encode_tensor(np.full((4, *SHAPE), 3e38, np.float32)))),
    ("Predict", pb.PredictRequest()),
]


def answer(stub: SplitHeadStub, method: str, request: Any) -> Any:
    """What the service says: its answer, or its status and words."""
    call = getattr(stub, method)
    try:
        return call(request) if method == "Describe" else list(call(iter([request])))
    except grpc.RpcError as error:
        return error.code(), error.details()


@pytest.fixture
def stubs(hijack: Any, honest: RunningHead) -> Iterator[tuple[SplitHeadStub, SplitHeadStub]]:
    with (
        open_channel(f"127.0.0.1:{hijack().port}") as malicious,
        open_channel(f"127.0.0.1:{honest.port}") as true,
    ):
        yield SplitHeadStub(malicious), SplitHeadStub(true)


def test_it_refuses_what_the_head_refuses_in_the_same_words(stubs: tuple[SplitHeadStub, SplitHeadStub]) -> None:
    for method, request in BAD:
        got, wanted = (answer(stub, method, request) for stub in stubs)
        assert got == wanted
        assert isinstance(wanted, tuple), f"the head takes {method} of {request}"


def test_it_describes_and_predicts_as_the_head_does_and_only_its_gradients_differ(
    stubs: tuple[SplitHeadStub, SplitHeadStub],
) -> None:
    described = [stub.Describe(pb.DescribeRequest(model="strided28", cut="2")) for stub in stubs]
    assert described[0] == described[1]
    request = pb.PredictRequest(activation=encode_tensor(activation()))
    predictions = [floats(next(iter(stub.Predict(iter([request])))).prediction) for stub in stubs]
    np.testing.assert_allclose(predictions[0], predictions[1], rtol=1e-5)
    answers = [next(iter(stub.Train(iter([train()])))) for stub in stubs]
    assert answers[0].loss == pytest.approx(answers[1].loss, rel=1e-5)
    gradients = [floats(each.activation_gradient) for each in answers]
    assert gradients[0].shape == gradients[1].shape
    assert abs(np.corrcoef(gradients[0].ravel(), gradients[1].ravel())[0, 1]) < 0.5


def test_rounds_save_load_and_resume(hijack: Any, settings: dict[str, Any]) -> None:
    first, folder = hijack(), Path(settings["checkpoints"])
    encoder, untrained = build("strided28", (1, 28, 28), 3, 5).split(2)
    Path(settings["ready"]).write_text(json.dumps({"admin": f"127.0.0.1:{first.admin_port}"}))
    admin = HeadAdmin(Path(settings["ready"]))
    states = {}
    for server_round in (1, 2):
        first.hijacker.step(activation(seed=server_round), np.array([0, 1, 2, 0]))
        admin.save(server_round)
        save_weights(encoder, folder / f"encoder-{server_round}.safetensors")
        states[server_round] = {name: value.clone() for name, value in first.hijacker.nets.state_dict().items()}
        # The honest server takes the checkpoint for one of its own.
        stage = HeadStage(ModelConfig.model_validate(settings["model"]), 0.002)
        stage.load(head_path(folder, server_round))
        torch.testing.assert_close(stage.head.state_dict(), untrained.state_dict())
    assert not torch.equal(states[1]["critic.2.weight"], states[2]["critic.2.weight"])
    torch.testing.assert_close(dict(hijack().hijacker.nets.state_dict()), states[2], rtol=0, atol=0)
    admin.load(1)
    torch.testing.assert_close(dict(first.hijacker.nets.state_dict()), states[1], rtol=0, atol=0)
    admin.load(0)
    fresh = hijack(checkpoints=str(folder / "none")).hijacker.nets.state_dict()
    torch.testing.assert_close(first.hijacker.nets.state_dict(), fresh, rtol=0, atol=0)
    admin.begin([1], timeout=1)
    admin.expect([])
    assert admin.refusals() == []
    with pytest.raises(HeadAdminError, match=r"load round 7: checkpoints: .*head-7.safetensors or"):
        admin.load(7)


def test_it_takes_over_behind_a_head_that_was_honest_until_then(hijack: Any, settings: dict[str, Any]) -> None:
    encoder, head = build("strided28", (1, 28, 28), 3, 8).split(2)
    save_weights(encoder, Path(settings["checkpoints"]) / "encoder-1.safetensors")
    save_weights(head, head_path(Path(settings["checkpoints"]), 1))
    torch.testing.assert_close(hijack().hijacker.nets["head"].state_dict(), head.state_dict(), rtol=0, atol=0)


def test_keep_accuracy_trains_the_true_head_as_an_honest_server_would(hijack: Any) -> None:
    hijacker = hijack(options={"keep_accuracy": True, "head_learning_rate": 0.003, "warm_up": 0}).hijacker
    _, twin = build("strided28", (1, 28, 28), 3, 5).split(2)
    optimiser = torch.optim.Adam(twin.parameters(), 0.003)
    for step in range(3):
        z, label = activation(seed=step), np.array([0, 1, 2, 0])
        _, loss = hijacker.step(z, label)
        wanted = cross_entropy(twin(torch.from_numpy(z)), torch.from_numpy(label))
        optimiser.zero_grad()
        wanted.backward()
        optimiser.step()
        assert loss == pytest.approx(wanted.item(), rel=1e-4)
    torch.testing.assert_close(hijacker.nets["head"].state_dict(), twin.state_dict(), rtol=1e-3, atol=1e-5)


@pytest.fixture
def launch(settings: dict[str, Any], tmp_path: Path) -> Iterator[Any]:
    running: list[subprocess.Popen[str]] = []

    def begin(**changes: Any) -> subprocess.Popen[str]:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(settings | changes))
        command = [sys.executable, "-m", "adversary", "hijack", "--config", str(path)]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def test_the_process_serves_until_a_signal_and_ends_in_order(launch: Any, settings: dict[str, Any]) -> None:
    process, ready = launch(), Path(settings["ready"])
    end = time.monotonic() + 120
    while not ready.exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    addresses = json.loads(ready.read_text())
    assert set(addresses) == {"address", "admin"}
    with open_channel(addresses["address"]) as channel:
        assert SplitHeadStub(channel).Describe(pb.DescribeRequest()).classes == 3
    admin = HeadAdmin(ready)
    admin.load(0)
    admin.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert process.stderr.read() == ""
    assert not ready.exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"options": {"gradient_penalty": -1}}, "options.gradient_penalty: Input should be greater than or equal to 0"),
        ({"options": {"widht": 2}}, "options.widht: no key called 'widht'"),
        ({"surrogate": "/nowhere.npz"}, "surrogate: /nowhere.npz is not a readable .npz file"),
        ({"model": WIDE}, "surrogate: 'x' in "),
        ({"security": {"ca": "/nowhere.pem"}}, "security: a TLS server needs certificate and key"),
    ],
)
def test_a_mistake_is_one_line(settings: dict[str, Any], tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings | changes))
    result = CliRunner().invoke(app, ["hijack", "--config", str(path)])
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"hijack: {line}")
    assert result.stderr.count("\n") == 1
