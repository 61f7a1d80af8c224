"""`python -m client serve`, and the ClientApp's handlers, on files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from typer.testing import CliRunner

from client.__main__ import app as command
from client.app import app
from client.examples import Floats, Labels
from server.guard import EVALUATION_METRICS, TRAIN_METRICS, Expected, check, usable
from server.head import RunningHead
from wireleak.common.head.encoder import predict_whole
from wireleak.common.models import build
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan
from wireleak.common.wire import open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub

MODEL: dict[str, Any] = {"name": "strided28", "input_shape": [1, 28, 28], "classes": 3, "cut": 2, "seed": 5}


@pytest.fixture
def device(tmp_path: Path, head: RunningHead, shard: tuple[Floats, Labels]) -> dict[str, Any]:
    return {
        "model": MODEL, "encoder": str(tmp_path / "encoder.safetensors"), "inputs": str(tmp_path / "inputs.npz"),
        "batch": 1, "head": {"address": f"127.0.0.1:{head.port}", "security": {"ca": None}},
        "predictions": str(tmp_path / "served" / "predictions.npz"),
    }  # fmt: skip


@pytest.fixture
def serve(device: dict[str, Any], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(**changes: Any) -> Result:
        path = tmp_path / "device.json"
        path.write_text(json.dumps(device | changes))
        return CliRunner().invoke(command, ["serve", "--config", str(path)])

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_device_gets_its_predictions(serve: Any, device: dict[str, Any], shard: tuple[Floats, Labels]) -> None:
    result = serve()
    assert result.exit_code == 0, result.output
    with np.load(device["predictions"]) as served:
        got = served["prediction"]
    np.testing.assert_allclose(got, predict_whole(build("strided28", (1, 28, 28), 3, 5).blocks, shard[0]), rtol=1e-4)
    assert [path.name for path in Path(device["predictions"]).parent.iterdir()] == ["predictions.npz"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"head": {"address": "127.0.0.1:1"}}, "head at 127.0.0.1:1: UNAVAILABLE: "),
        ({"head": {}}, "head.address: is missing"),
        ({"model": MODEL | {"cut": 3}}, "encoder: "),
        ({"inputs": "/nowhere.npz"}, "inputs: cannot read /nowhere.npz"),
        ({"encoder": "/nowhere.safetensors"}, "encoder: /nowhere.safetensors does not hold the encoder"),
        ({"batch": 0}, "batch: Input should be greater than 0"),
        ({"inputs": "inputs.npz"}, "inputs: inputs.npz is not absolute"),
        ({"colour": 1}, "colour: no key called 'colour'"),
    ],
)
def test_a_mistake_is_one_line(serve: Any, device: dict[str, Any], changes: dict[str, Any], line: str) -> None:
    result = serve(**changes)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"client serve: {line}")
    assert result.stderr.count("\n") == 1
    assert not Path(device["predictions"]).exists()


def test_a_device_cut_elsewhere_is_refused_by_the_head(serve: Any, device: dict[str, Any], tmp_path: Path) -> None:
    encoder, _ = build("strided28", (1, 28, 28), 3, 5).split(1)
    from wireleak.common.models import save_weights

    save_weights(encoder, tmp_path / "cut1.safetensors")
    config = tmp_path / "cut1.json"
    changes = {"model": MODEL | {"cut": 1}, "encoder": str(tmp_path / "cut1.safetensors")}
    config.write_text(json.dumps(device | changes))
    done = subprocess.run(
        [sys.executable, "-m", "client", "serve", "--config", str(config)], capture_output=True, text=True, timeout=60
    )
    where = device["head"]["address"]
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"client serve: head at {where}: cut: the head serves cut 2 of strided28; this device asked for cut 1\n"
    )


@pytest.fixture
def ask(tmp_path: Path, head: RunningHead, shard: tuple[Floats, Labels]) -> Callable[..., Message]:
    """Send a message to the ClientApp, as a SuperNode does."""

    def send(kind: str, weights: dict[str, Any], plan: dict[str, Any] | None = None, **changes: Any) -> Message:
        settings = {
            "model": MODEL, "plan": {"epochs": 1, "batch": 16} | (plan or {}), "train": str(tmp_path / "train.npz"),
            "evaluation": str(tmp_path / "evaluation.npz"), "head": {"address": f"127.0.0.1:{head.port}"},
            "seed": 9,
        } | changes  # fmt: skip
        path = tmp_path / "client.json"
        path.write_text(json.dumps(settings))
        records = RecordDict({"arrays": ArrayRecord(weights), "config": ConfigRecord({"server-round": 4})})
        context = Context(1, 1, {"config": str(path)}, RecordDict(), {})
        return app(Message(records, 1, kind), context)

    return send


@pytest.mark.parametrize("mode", ["split", "federated"])
def test_the_client_app_s_replies_are_what_the_server_takes(
    ask: Any, shard: tuple[Floats, Labels], mode: str, tmp_path: Path
) -> None:
    network = build("strided28", (1, 28, 28), 3, 5)
    weights = (network.split(2)[0] if mode == "split" else network.blocks).state_dict()
    ledger = tmp_path / "labels.jsonl"
    trained = ask("train", weights, {"mode": mode}, ledger=str(ledger) if mode == "split" else None)
    if mode == "split":
        # The labels that it sent, batch by batch, are the ground truth for attacks on labels.
        kept = [json.loads(line)["labels"] for line in ledger.read_text().splitlines()]
        assert [len(batch) for batch in kept] == [16, 16, 16, 2]
        batches = Training(ClientPlan(epochs=1, batch=16), (9, 4)).batches(50)
        assert kept == [shard[1][rows].tolist() for rows in batches]
    assert usable({1: trained}, partial(check, Expected(TRAIN_METRICS, ArrayRecord(weights))))[1] == {}
    assert trained.content["metrics"]["num-examples"] == 50
    # In both modes the same weights, and the same order of examples, give the same encoder.
    train_whole(network.blocks, *shard, Training(ClientPlan(epochs=1, batch=16, learning_rate=0.002), (9, 4)))
    wanted = {name: value for name, value in network.blocks.state_dict().items() if name in weights}
    got = trained.content["arrays"].to_torch_state_dict()
    torch.testing.assert_close(dict(got), wanted, rtol=1e-4, atol=1e-6)

    scored = ask("evaluate", got, {"mode": mode})
    assert usable({1: scored}, partial(check, Expected(EVALUATION_METRICS)))[1] == {}


def test_federated_mode_needs_no_head(ask: Any) -> None:
    weights = build("strided28", (1, 28, 28), 3, 5).blocks.state_dict()
    assert ask("train", weights, {"mode": "federated"}, head=None).has_content()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": None}, "head: is missing, and split mode needs it"),
        ({"train": "/nowhere.npz"}, "train: cannot read /nowhere.npz"),
        ({"plan": {"mode": "federated"}}, "model: the global model does not fit cut 2 of strided28 in federated mode"),
        ({"model": MODEL | {"classes": 2}}, "train: y in .* holds labels outside 0..1"),
        ({"plan": {"epochs": 0}}, "plan.epochs: Input should be greater than 0"),
    ],
)
def test_a_client_s_mistake_names_the_field(ask: Any, changes: dict[str, Any], message: str) -> None:
    weights = build("strided28", (1, 28, 28), 3, 5).split(2)[0].state_dict()
    with pytest.raises(ValueError, match=message):
        ask("train", weights, **changes)


def test_a_node_without_a_config_says_so() -> None:
    message = Message(RecordDict({"arrays": ArrayRecord(), "config": ConfigRecord({"server-round": 1})}), 1, "train")
    with pytest.raises(ValueError, match="config: start the node with --node-config"):
        app(message, Context(1, 1, {}, RecordDict(), {}))


def test_a_proxy_in_the_environment_is_not_asked_for_loopback(
    head: RunningHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    with open_channel(f"127.0.0.1:{head.port}") as channel:
        assert SplitHeadStub(channel).Describe(pb.DescribeRequest(), timeout=10).model == MODEL["name"]
