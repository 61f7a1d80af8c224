"""A link that breaks: every input is answered once, in order, and re-sent as the same bytes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adversary.tap.decode.observation import Kind
from adversary.tap.decode.read import observations
from server.head import RunningHead


class Cutting:
    """A TCP proxy that cuts each of its first connections after so many bytes from the device."""

    def __init__(self, upstream: int, cuts: list[int]) -> None:
        self._upstream, self._cuts = upstream, list(cuts)
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            limit = self._cuts.pop(0) if self._cuts else None
            far = socket.create_connection(("127.0.0.1", self._upstream))
            threading.Thread(target=self._copy, args=(near, far, limit), daemon=True).start()
            threading.Thread(target=self._copy, args=(far, near, None), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                sink.sendall(data)
                limit = None if limit is None else limit - len(data)
                if limit is not None and limit <= 0:
                    break
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing it does not wake a thread that accepts
        self._listener.close()


@pytest.fixture
def start_relay() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the tap's relay as a process; the test's end kills those that still run."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int, upstream: int, capture: Path) -> subprocess.Popen[bytes]:
        where = ["--listen", f"127.0.0.1:{port}", "--upstream", f"127.0.0.1:{upstream}", "--output", str(capture)]
        command = [sys.executable, "-m", "adversary", "relay", *where]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(listens)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def cutting(head: RunningHead) -> Iterator[Callable[..., Cutting]]:
    made: list[Cutting] = []

    def begin(*cuts: int) -> Cutting:
        made.append(Cutting(head.port, list(cuts)))
        return made[-1]

    yield begin
    for proxy in made:
        proxy.close()


def test_every_input_is_answered_once_and_in_order_over_a_link_that_breaks(
    device: Any,
    encoder: Path,
    cutting: Callable[..., Cutting],
    pictures: Path,
    expected: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("client.device.streaming.link._FIRST_DELAY", 0.01)
    # In a message, between messages, and in the first bytes of a connection.
    proxy = cutting(9_000, 30_000, 100, 13_000, 7_000)
    status, output, errors = device(
        encoder, "--head", f"127.0.0.1:{proxy.port}", "--input", pictures, "--json", "--queue", tmp_path / "q"
    )
    rows = [json.loads(line) for line in output.splitlines()]
    assert status == 0, errors
    assert [row["input"] for row in rows[:-1]] == list(range(20))
    np.testing.assert_allclose([row["prediction"] for row in rows[:-1]], expected, atol=1e-5)
    assert rows[-1]["totals"]["losses"] >= 4
    assert proxy.connections >= 6
    assert "is away" in errors


def test_noise_is_drawn_once_for_an_input_that_is_sent_again(
    device: Any,
    encoder: Path,
    rewrite: Callable[..., Path],
    cutting: Callable[..., Cutting],
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noise = {"name": "noise", "options": {"clip": 1, "sigma": 1}, "at_inference": True}
    folder = rewrite(encoder, transforms=[noise | {"guarantee": "local (a guarantee)", "refusal": None}])
    draws: list[int] = []
    real = os.urandom

    def counted(count: int) -> bytes:
        draws.append(count)
        return real(count)

    monkeypatch.setattr(os, "urandom", counted)
    proxy = cutting(20_000, 20_000)
    status, _, errors = device(folder, "--head", f"127.0.0.1:{proxy.port}", "--input", pictures)
    assert status == 0, errors
    assert draws == [2 * 8 * 32 * 7 * 7] * 20
    assert "noise: local (a guarantee)" in errors


def test_a_head_that_stays_away_keeps_the_queue_and_the_next_start_goes_on(
    device: Any,
    encoder: Path,
    head: RunningHead,
    cutting: Callable[..., Cutting],
    pictures: Path,
    expected: np.ndarray,
    tmp_path: Path,
) -> None:
    queue = ("--input", pictures, "--json", "--queue", tmp_path / "q")
    # The first 8 messages are 50 kB; those behind them are sent only after answers.
    proxy = cutting(80_000)

    def leave() -> None:
        wait_for(lambda: proxy.connections)
        proxy.close()

    threading.Thread(target=leave, daemon=True).start()
    status, output, errors = device(encoder, "--head", f"127.0.0.1:{proxy.port}", *queue, "--patience", 0.5)
    assert status == 1
    assert "have no answer; run the same command again to go on" in errors
    answered = [json.loads(line) for line in output.splitlines() if "input" in json.loads(line)]
    assert 0 < len(answered) < 20
    status, output, _ = device(encoder, "--head", f"127.0.0.1:{head.port}", *queue)
    answered += [json.loads(line) for line in output.splitlines()[:-1]]
    assert status == 0
    assert [row["input"] for row in answered] == list(range(20))
    np.testing.assert_allclose([row["prediction"] for row in answered], expected, atol=1e-5)


def test_a_head_that_is_away_is_one_line_without_a_queue(device: Any, encoder: Path, pictures: Path) -> None:
    status, output, errors = device(encoder, "--head", "127.0.0.1:1", "--input", pictures, "--patience", 0)
    assert (status, output, errors.count("\n")) == (1, "", 1)
    assert "head at 127.0.0.1:1 is away: UNAVAILABLE" in errors
    assert "check --head" in errors
    assert "inputs from number 0 on have no answer; give --queue FOLDER, and a next start goes on" in errors


def test_a_killed_relay_loses_and_repeats_nothing_and_its_captures_hold_what_was_sent(
    encoder: Path,
    head: RunningHead,
    pictures: Path,
    expected: np.ndarray,
    tmp_path: Path,
    start_relay: Callable[..., subprocess.Popen[bytes]],
) -> None:
    port = free_port()
    captures = [tmp_path / "before.pcap", tmp_path / "after.pcap"]
    sent = tmp_path / "sent.npz"
    relay = start_relay(port, head.port, captures[0])
    argv = [encoder, "--head", f"127.0.0.1:{port}", "--input", "-", "--json", "--record", sent]
    command = [sys.executable, "-m", "client.device", *map(str, argv)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as device:
        assert device.stdin is not None and device.stdout is not None
        with np.load(pictures) as held:
            inputs = held["x"]
        rows = []
        for number, values in enumerate(inputs):
            if number == 10:
                relay.send_signal(signal.SIGTERM)
                relay.wait(10)
            device.stdin.write(npy(values))
            device.stdin.flush()
            if number == 10:
                time.sleep(0.5)
                relay = start_relay(port, head.port, captures[1])
            rows.append(json.loads(device.stdout.readline()))
        device.stdin.close()
        assert json.loads(device.stdout.readline())["totals"]["losses"] >= 1
        assert device.wait(20) == 0
    relay.send_signal(signal.SIGTERM)
    relay.wait(10)
    assert [row["input"] for row in rows] == list(range(20))
    np.testing.assert_allclose([row["prediction"] for row in rows], expected, atol=1e-5)
    seen = [found.tensor for found in observations(captures) if found.kind is Kind.ACTIVATION]
    with np.load(sent) as record:
        np.testing.assert_array_equal(np.concatenate(seen), record["activation"])
        np.testing.assert_allclose(record["prediction"], expected, atol=1e-5)


def npy(values: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(ready: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)
