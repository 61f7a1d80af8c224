"""The live eavesdropper: it rebuilds what crossed a wire while the capture still grows, and publishes it."""

from __future__ import annotations

import base64
import json
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from adversary.live.config import LiveConfig
from adversary.live.eavesdropper import Eavesdropper, grow
from adversary.live.service import KEPT, Feed
from adversary.tap.sources.record import CaptureWriter
from wireleak.common.config import ConfigError
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

Floats = npt.NDArray[np.float32]
HEAD = b"POST /wireleak.v1.SplitHead/Predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web+proto\r\n"


@pytest.fixture(scope="module")
def weights() -> Floats:
    """An invertible linear encoder of pictures (1, 4, 4)."""
    return np.linalg.qr(np.random.default_rng(7).standard_normal((16, 16)))[0].astype(np.float32)


def pictures(count: int, seed: int) -> Floats:
    return np.random.default_rng(seed).random((count, 1, 4, 4), np.float32)


def encode(weights: Floats, inputs: Floats) -> Floats:
    return np.asarray(inputs.reshape(len(inputs), 16) @ weights, np.float32)


def browser(activations: Sequence[Floats]) -> bytes:
    """What a browser sends that asks for a prediction of each batch."""
    sent = b""
    for activation in activations:
        message = pb.PredictRequest(activation=encode_tensor(activation)).SerializeToString()
        body = struct.pack(">BI", 0, len(message)) + message
        sent += HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    return sent


def record(path: Path, sent: bytes) -> CaptureWriter:
    """Record bytes of one client, and leave the connection open."""
    writer = CaptureWriter(path)
    talk = writer.converse(("10.0.0.1", 40000), ("10.0.0.2", 8787), time.time_ns())
    talk.data(0, memoryview(sent), time.time_ns())
    writer.write(writer.take(time.time_ns()))
    return writer


@pytest.fixture
def config(tmp_path: Path, weights: Floats) -> LiveConfig:
    own = pictures(400, 1)
    np.savez(tmp_path / "surrogate.npz", x=own, y=np.zeros(len(own), np.int64))
    record(tmp_path / "device.pcap", browser([encode(weights, own)]))
    return LiveConfig(
        capture=tmp_path / "link.pcap",
        device=[tmp_path / "device.pcap"],
        surrogate=tmp_path / "surrogate.npz",
        options={"epochs": 40},
        ready=tmp_path / "ready.json",
        origins=["http://localhost:8787"],
    )


class Published(list[tuple[str, dict[str, Any]]]):
    """Collects events."""

    def __call__(self, kind: str, fields: dict[str, Any]) -> None:
        self.append((kind, fields))

    def pictures(self) -> list[dict[str, Any]]:
        return [fields for kind, fields in self if kind == "picture"]

    def wait(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not enough() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert enough()


def test_every_picture_is_rebuilt_while_the_capture_grows(config: LiveConfig, weights: Floats) -> None:
    published, stopped = Published(), threading.Event()
    eavesdropper = Eavesdropper(config, published)
    eavesdropper.train()
    status = published[-1][1]
    assert status["state"] == "listening" and status["held_out_mse"] < status["mean_mse"] / 4
    watcher = threading.Thread(target=eavesdropper.watch, args=[stopped])
    watcher.start()
    try:
        # The capture appears after the watcher, and its last record is written in two halves.
        private = pictures(3, 2)
        sent = [encode(weights, private[:1]), encode(weights, private[1:])]
        record(config.capture.with_name("whole.pcap"), browser(sent))
        whole = config.capture.with_name("whole.pcap").read_bytes()
        with config.capture.open("wb", buffering=0) as file:
            file.write(whole[:300])
            time.sleep(0.1)
            assert not published.pictures()
            file.write(whole[300:])
            published.wait(lambda: len(published.pictures()) == 3)
    finally:
        stopped.set()
        watcher.join()
    found = published.pictures()
    assert [one["row"] for one in found] == [0, 0, 1]
    assert [one["crc32"] for one in found] == [zlib.crc32(sent[batch].tobytes()) for batch in (0, 1, 1)]
    rebuilt = np.stack([np.frombuffer(base64.b64decode(one["pixels"]), "<f4").reshape(1, 4, 4) for one in found])
    mean = np.frombuffer(base64.b64decode(status["mean"]), "<f4").reshape(1, 4, 4)
    assert np.square(rebuilt - private).mean() < np.square(mean - private).mean() / 4
    assert found[0]["sender"] == "10.0.0.1:40000"


def test_activations_of_another_shape_are_named_and_cost_nothing(config: LiveConfig, weights: Floats) -> None:
    published, stopped = Published(), threading.Event()
    eavesdropper = Eavesdropper(config.model_copy(update={"options": {"epochs": 1}}), published)
    eavesdropper.train()
    record(config.capture, browser([np.zeros((1, 3), np.float32), encode(weights, pictures(1, 3))]))
    watcher = threading.Thread(target=eavesdropper.watch, args=[stopped])
    watcher.start()
    published.wait(lambda: bool(published.pictures()))
    stopped.set()
    watcher.join()
    assert ("skipped", {"shape": [1, 3], "expected": [16]}) in published


@pytest.mark.parametrize(("attack", "reason"), [("attributes", "rebuilds no inputs"), ("rmle", "needs")])
def test_an_attack_that_cannot_do_it_is_refused(config: LiveConfig, attack: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"^attack: {attack} {reason}"):
        Eavesdropper(config.model_copy(update={"attack": attack}), Published())


def test_a_capture_without_pairs_is_named(config: LiveConfig) -> None:
    record(config.capture.with_name("empty.pcap"), b"GET / HTTP/1.1\r\n\r\n")
    none = config.model_copy(update={"device": [config.capture.with_name("empty.pcap")]})
    with pytest.raises(ConfigError, match=r"^device: no pairs of input and activation; 0 activations seen"):
        Eavesdropper(none, Published()).train()


def test_a_growing_file_is_read_to_its_end_and_no_further(tmp_path: Path) -> None:
    stopped, path, found = threading.Event(), tmp_path / "file", b""
    path.write_bytes(b"ab")
    pieces = grow(path, stopped)
    found += next(pieces)
    with path.open("ab") as file:
        file.write(b"cd")
    found += next(pieces)
    stopped.set()
    assert found == b"abcd" and list(pieces) == []


def test_a_late_page_gets_the_status_and_the_last_pictures() -> None:
    feed = Feed()
    feed.publish("status", {"state": "training"})
    for number in range(KEPT + 5):
        feed.publish("picture", {"number": number})
    feed.publish("status", {"state": "listening"})
    events = feed.after(0)
    assert [event.fields.get("number") for event in events[:-1]] == list(range(5, KEPT + 5))
    assert events[-1].fields == {"state": "listening"} and not feed.after(events[-1].number)


def test_as_a_process_it_publishes_to_its_page_only_and_ends_in_order(config: LiveConfig, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(config.model_copy(update={"options": {"epochs": 1}}).model_dump_json())
    command = [sys.executable, "-m", "adversary", "live", "--config", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not config.ready.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        address = json.loads(config.ready.read_text())["address"]
        allowed = {}
        for origin in ("http://localhost:8787", "http://evil.example"):
            request = urllib.request.Request(f"http://{address}/events", headers={"origin": origin})
            with urllib.request.urlopen(request) as answer:
                allowed[origin] = answer.headers.get("access-control-allow-origin")
                assert answer.headers["content-type"].startswith("text/event-stream")
                while not (line := answer.readline()).startswith(b"data:"):
                    pass
                assert json.loads(line[5:])["state"] in ("training", "listening")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert allowed == {"http://localhost:8787": "http://localhost:8787", "http://evil.example": None}
    assert (process.returncode, errors) == (0, "") and not config.ready.exists()
