"""No peer locks out the others: calls that hold a place without using it are ended, with a reason and one line."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import h2.connection
import numpy as np
import psutil
import pytest

from server.config import ServerConfig
from server.limits import largest_message, places
from wireleak.common.wire import channel_options, encode_tensor
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.channel import MAX_MESSAGE_BYTES
from wireleak.common.wire.limits import Seldom
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
GOOD = pb.PredictRequest(activation=encode_tensor(np.full((1, 32, 7, 7), 0.5, np.float32)))


@contextmanager
def connection(head: Any) -> Iterator[SplitHeadStub]:
    """A connection of its own: channels of one process share theirs."""
    options = [*channel_options(), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{head.port}", options) as channel:
        yield SplitHeadStub(channel)


class Silent:
    """Calls that send nothing until they are released."""

    def __init__(self) -> None:
        self._released = threading.Event()
        self.calls: list[Any] = []

    def open(self, stub: SplitHeadStub, count: int = 1) -> None:
        self.calls += [stub.Predict(self._requests()) for _ in range(count)]

    def refused(self) -> list[str]:
        """Return the details of the calls that were ended."""
        over = [call for call in self.calls if call.done()]
        assert all(call.code() is EXHAUSTED for call in over)
        return [str(call.details()) for call in over]

    def release(self) -> None:
        self._released.set()
        for call in self.calls:
            call.cancel()

    def _requests(self) -> Iterator[pb.PredictRequest]:
        self._released.wait(30)
        yield from ()


@pytest.fixture
def silent() -> Iterator[Silent]:
    calls = Silent()
    yield calls
    calls.release()


def until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def served(stub: SplitHeadStub) -> bool:
    return len(list(stub.Predict(iter([GOOD]), timeout=10))) == 1


def test_64_idle_calls_of_one_connection_leave_room_for_others(start_head: Any, silent: Silent) -> None:
    head = start_head()
    with connection(head) as hostile, connection(head) as other:
        silent.open(hostile, 64)
        until(lambda: len(silent.refused()) == 32)
        assert all(reason.startswith("peer_streams: a connection may have 32 calls") for reason in silent.refused())
        assert served(other)


def test_idle_calls_of_64_connections_give_way(start_head: Any, silent: Silent) -> None:
    head = start_head()
    with ExitStack() as stack:
        for _ in range(64):
            silent.open(stack.enter_context(connection(head)))
        other = stack.enter_context(connection(head))
        time.sleep(1.1)
        assert served(other) and other.Describe(pb.DescribeRequest(), timeout=10).classes == 3
        assert silent.refused() == ["streams: the head answers 64 calls at once; try again later (idle call)"]


def test_busy_calls_of_two_connections_leave_room_for_another(start_head: Any) -> None:
    head = start_head()
    stop = threading.Event()

    def often() -> Iterator[pb.PredictRequest]:
        for sequence in range(1000):
            if stop.wait(0.5):
                return
            yield pb.PredictRequest(sequence=sequence, activation=GOOD.activation)

    with ExitStack() as stack:
        hostile = [stack.enter_context(connection(head)) for _ in range(2)]
        calls = [stub.Predict(often()) for stub in hostile for _ in range(32)]
        for call in calls:
            next(iter(call))
        assert served(stack.enter_context(connection(head)))
        stop.set()
        assert [call.code() for call in calls].count(EXHAUSTED) == 1


@pytest.mark.parametrize(("limit", "seconds"), [("idle", 0.3), ("age", 0.3)])
def test_a_call_ends_after_its_limit_and_another_may_follow(
    start_head: Any, silent: Silent, failure: Any, limit: str, seconds: float
) -> None:
    with connection(start_head(limits={limit: seconds})) as stub:
        silent.open(stub)
        code, details = failure(lambda: next(iter(silent.calls[0])))
        assert code is EXHAUSTED and details.startswith(f"{limit}: ") and details.endswith("open another")
        assert served(stub)


def test_a_busy_call_is_not_idle(start_head: Any) -> None:
    def slowly() -> Iterator[pb.PredictRequest]:
        for sequence in range(6):
            time.sleep(0.2)
            yield pb.PredictRequest(sequence=sequence, activation=GOOD.activation)

    with connection(start_head(limits={"idle": 0.8})) as stub:
        assert len(list(stub.Predict(slowly()))) == 6


def test_a_unary_call_without_its_message_is_ended_too(start_head: Any, silent: Silent) -> None:
    head = start_head(limits={"idle": 0.3})
    with grpc.insecure_channel(f"127.0.0.1:{head.port}") as channel:
        silent.calls.append(channel.stream_stream("/wireleak.v1.SplitHead/Describe", None, None)(silent._requests()))
        until(lambda: silent.refused() == ["idle: this call was idle for 0.3 s; open another"])


def test_a_client_whose_stream_is_refused_is_named(start_head: Any, failure: Any, train_request: Any) -> None:
    head = start_head()
    bad = train_request(label=encode_tensor(np.array([0, 1, 2, 9])))
    with connection(head) as stub:
        failure(lambda: list(stub.Train(iter([bad]), metadata=(("wireleak-node", "77"),))))
    assert head._calls.refusals() == [("77", "label.data: labels 0..9 outside 0..2")]
    assert head._calls.refusals() == []


def test_large_activations_leave_fewer_calls_but_enough_for_the_clients(settings: dict[str, Any]) -> None:
    config = ServerConfig.model_validate(settings | {"clients": 9})
    assert largest_message(config) == 4 * 64 * 32 * 7 * 7 + (1 << 20)
    assert places(config, largest_message(config)) == 64
    assert places(config, 64 << 20) == 16
    assert places(config, 512 << 20) == 11
    assert largest_message(ServerConfig.model_validate(settings | {"max_batch": 1 << 20})) == MAX_MESSAGE_BYTES


def test_a_hostile_peer_does_not_fill_the_log() -> None:
    lines = Seldom(burst=3, seconds=0.2)
    passed = [record for _ in range(1000) if lines.filter(record := logging.makeLogRecord({"msg": "no"}))]
    assert len(passed) == 3
    time.sleep(0.25)
    late = logging.makeLogRecord({"msg": "no"})
    assert lines.filter(late) and late.getMessage() == "no (997 lines like it left out)"


class HalfSender:
    """Calls Predict and sends half of the largest message, as far as flow control lets it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.settimeout(0.05)
        self._http = h2.connection.H2Connection()
        self._http.initiate_connection()
        headers = {":method": "POST", ":scheme": "http", ":path": "/wireleak.v1.SplitHead/Predict", ":authority": "x"}
        self._http.send_headers(1, [*headers.items(), ("content-type", "application/grpc"), ("te", "trailers")])
        self._left = MAX_MESSAGE_BYTES // 2
        self._part = b"\0" + (MAX_MESSAGE_BYTES - 100).to_bytes(4, "big")
        self.sent = 0

    def go_on(self) -> None:
        with suppress(Exception):
            while self._left:
                room = min(self._http.local_flow_control_window(1), self._http.max_outbound_frame_size, self._left)
                if not room:
                    break
                part, self._part = (self._part + bytes(room))[:room], b""
                self._http.send_data(1, part)
                self._left -= room
                self.sent += room
                self._socket.settimeout(5)
                self._socket.sendall(self._http.data_to_send())
            self._socket.settimeout(0.005)
            self._http.receive_data(self._socket.recv(1 << 16))
            self._socket.sendall(self._http.data_to_send())


@pytest.mark.study
def test_half_messages_of_100_calls_take_bounded_memory(settings: dict[str, Any], tmp_path: Path) -> None:
    config = settings | {"max_batch": 1 << 20, "limits": {"memory": 400}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    process = subprocess.Popen([sys.executable, "-m", "server", "head", "--config", str(path)], stderr=subprocess.PIPE)
    try:
        until_ready = time.monotonic() + 60
        while not Path(settings["ready"]).exists():
            assert time.monotonic() < until_ready
            time.sleep(0.05)
        port = int(json.loads(Path(settings["ready"]).read_text())["address"].rpartition(":")[2])
        memory = psutil.Process(process.pid).memory_info
        before, most = memory().rss, 0
        senders = [HalfSender(port) for _ in range(100)]
        end = time.monotonic() + 15
        while time.monotonic() < end:
            for sender in senders:
                sender.go_on()
            most = max(most, memory().rss - before)
        # Five calls of 80 MiB fit; the test proves something only where some were sent.
        assert sum(sender.sent for sender in senders) > 4 * 30 << 20
        assert most < 500 << 20
    finally:
        process.kill()
        process.communicate()
