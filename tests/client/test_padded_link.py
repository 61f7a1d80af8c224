"""What sizes tell under TLS of a device whose batches differ, and what is left of it once messages are padded."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from adversary.attacks.activations.probes import ProbeOptions
from adversary.attacks.activations.sizes import Sizes
from client.config import HeadConfig
from client.examples import Floats, Labels
from wireleak.common.head.encoder import predict_split
from wireleak.common.head.link import HeadStream, connect
from wireleak.common.models import ModelConfig, build
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.lab.launch.certificates import Authority

MODEL = {"name": "strided28", "input_shape": [1, 28, 28], "classes": 3, "cut": 4, "seed": 5}
MESSAGES, PAD = 80, 4096


@pytest.fixture
def relayed(tmp_path: Path) -> Iterator[Callable[[int], tuple[str, Path, Any]]]:
    """Put the relay before a port; returns its address, the capture, and the process, whose end makes that whole."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> tuple[str, Path, Any]:
        folder = tmp_path / f"tap-{port}"
        folder.mkdir()
        capture, ready, config = folder / "link.pcap", folder / "ready.json", folder / "config.json"
        link = {"name": "link", "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{port}", "capture": str(capture)}
        config.write_text(json.dumps({"links": [link], "ready": str(ready)}))
        started.append(subprocess.Popen([sys.executable, "-m", "adversary", "relay", "--config", str(config)]))
        deadline = time.monotonic() + 120
        while not ready.exists():
            assert started[-1].poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        return json.loads(ready.read_text())["links"]["link"], capture, started[-1]

    yield start
    for relay in started:
        relay.kill()
        relay.wait()


def test_sizes_tell_how_many_examples_a_message_holds_unless_it_is_padded(
    start_head: Any, relayed: Any, tmp_path: Path
) -> None:
    """One message for each of a device's users, with 8 to 15 of their examples; private is whether there are many."""
    authority = Authority(tmp_path / "certificates")
    server = authority.server("server")
    counts = np.random.default_rng(2).integers(8, 16, MESSAGES)
    many = counts >= 12
    found = {}
    for pad in (None, PAD):
        secured = {"certificate": str(server.certificate), "key": str(server.key)}
        head = start_head(model=MODEL, security=secured, pad=pad)
        address, capture, relay = relayed(head.port)
        there = HeadConfig.model_validate({"address": address, "security": {"ca": str(server.ca)}, "pad": pad})
        draw = np.random.default_rng(3)
        with connect(there, ModelConfig.model_validate(MODEL)) as stub, HeadStream(stub.Predict) as stream:
            for number, count in enumerate(counts):
                activation = encode_tensor(draw.random((count, 32, 1, 1), dtype=np.float32))
                answer = stream.ask(pb.PredictRequest(sequence=number, activation=activation))
                assert answer.prediction.shape[0] == count
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(60) == 0
        seen = Sizes(ProbeOptions(), 0).read([capture], MESSAGES)
        found[pad] = seen.rows
    plain, padded = found[None], found[PAD]
    assert roc_auc_score(many, plain[:, 0]) > 0.99 and np.corrcoef(counts, plain[:, 0])[0, 1] > 0.99
    # A frame of the protocol's own may share a record with a message; an example is 128 bytes.
    assert np.ptp(np.sort(padded[:, 0])[2:-2]) < 64 and padded[:, 0].min() > PAD
    assert 0.35 < roc_auc_score(many, padded[:, 0]) < 0.65


def test_a_padded_link_answers_as_one_that_is_not(start_head: Any, shard: tuple[Floats, Labels]) -> None:
    inputs, _ = shard
    answers = []
    for pad in (None, 1000, "powers"):
        head = start_head(pad=pad)
        there = HeadConfig.model_validate({"address": f"127.0.0.1:{head.port}", "pad": pad})
        model = ModelConfig.model_validate(MODEL | {"cut": 2})
        encoder, _ = build("strided28", (1, 28, 28), 3, 5).split(2)
        with connect(there, model) as stub:
            answers.append(predict_split(encoder, stub, inputs, 3, 7))
            (answer,) = stub.Predict(iter([pb.PredictRequest(activation=encode_tensor(np.zeros((1, 32, 7, 7), "f4")))]))
        size = answer.ByteSize()
        assert {None: size < 100, 1000: size == 1000, "powers": size & (size - 1) == 0}[pad]
    assert np.array_equal(answers[0], answers[1]) and np.array_equal(answers[0], answers[2])
