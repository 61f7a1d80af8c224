"""The gateway: a browser's gRPC-web reaches the head bit for bit, and the page may reach no other host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from server.head import RunningHead
from server.web.config import Cut, GatewayConfig
from server.web.forward import SERVICE
from server.web.gateway import application, content_security_policy
from wireleak.common.config import ConfigError, Limits
from wireleak.common.serving import MOST_CONNECTIONS
from wireleak.common.wire import decode_tensor, encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

HEADERS = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}


@pytest.fixture
def config(tmp_path: Path, head: RunningHead) -> GatewayConfig:
    pages, encoder = tmp_path / "pages", tmp_path / "encoder"
    for folder, name in ((pages, "index.html"), (encoder, "encoder.onnx"), (encoder, "manifest.json")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    (pages / "app.wasm").write_bytes(b"\0asm")
    return GatewayConfig(
        head=f"127.0.0.1:{head.port}",
        ready=tmp_path / "gateway.json",
        pages=pages,
        encoder=encoder,
        eavesdropper=8788,
        title="digits",
        cuts=[Cut(port=8787, block=1, numbers=3136)],
    )


class Browser:
    """Asks a gateway as a browser would, on one event loop."""

    def __init__(self, client: httpx.AsyncClient, loop: asyncio.Runner) -> None:
        self._client = client
        self._loop = loop

    def run(self, act: Callable[[httpx.AsyncClient], Any]) -> Any:
        return self._loop.run(act(self._client))

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self._loop.run(self._client.get(path, **more))

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self._loop.run(self._client.post(path, **more))


@contextmanager
def browsing(config: GatewayConfig) -> Iterator[Browser]:
    app = application(config)
    life = app.router.lifespan_context(app)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
    with asyncio.Runner() as loop:
        loop.run(life.__aenter__())
        yield Browser(client, loop)
        loop.run(client.aclose())
        loop.run(life.__aexit__(None, None, None))


@pytest.fixture
def browser(config: GatewayConfig) -> Iterator[Browser]:
    with browsing(config) as made:
        yield made


def call(browser: Browser, method: str, *messages: bytes, **headers: str) -> tuple[list[bytes], dict[str, str]]:
    """Call as a browser does, and return the answer's messages and its trailers."""
    body = b"".join(struct.pack(">BI", 0, len(one)) + one for one in messages)
    answer = browser.post(f"/{SERVICE}/{method}", content=body, headers=HEADERS | headers)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("application/grpc-web")
    data, found, trailers = answer.content, [], ""
    while data:
        flag, size = struct.unpack(">BI", data[:5])
        block, data = data[5 : 5 + size], data[5 + size :]
        if flag & 0x80:
            trailers = block.decode()
        else:
            found.append(block)
    return found, dict(line.split(": ", 1) for line in trailers.strip().split("\r\n"))


def test_a_prediction_is_the_heads_own(browser: Browser, head: RunningHead) -> None:
    shape = (1, *head.stage.activation_shape)
    activation = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    request = pb.PredictRequest(activation=encode_tensor(activation)).SerializeToString()
    (answer,), trailers = call(browser, "Predict", request)
    assert trailers["grpc-status"] == "0"
    found = decode_tensor(pb.PredictResponse.FromString(answer).prediction)
    assert found.tobytes() == head.stage.predict(activation.copy()).tobytes()


def test_describe_says_which_encoder_fits(browser: Browser) -> None:
    (answer,), _ = call(browser, "Describe", b"")
    assert pb.Description.FromString(answer).model == "strided28"


def test_the_heads_refusal_reaches_the_browser_word_for_word(browser: Browser) -> None:
    wrong = pb.PredictRequest(activation=encode_tensor(np.zeros((1, 3), np.float32))).SerializeToString()
    found, trailers = call(browser, "Predict", wrong)
    assert not found and trailers["grpc-status"] == "3"
    assert trailers["grpc-message"].startswith("activation.shape%3A%20%5B1%2C%203%5D")


def test_a_head_that_is_away_gives_one_line(config: GatewayConfig) -> None:
    away = config.model_copy(update={"head": "127.0.0.1:1"})
    with browsing(away) as browser:
        _, trailers = call(browser, "Describe", b"")
    assert trailers["grpc-status"] == "14" and "start%20it" in trailers["grpc-message"]


def test_broken_framing_is_refused_and_the_next_call_goes_on(browser: Browser) -> None:
    answer = browser.post(f"/{SERVICE}/Predict", content=b"\x09nonsense", headers=HEADERS)
    assert b"grpc-status: 3" in answer.content
    assert call(browser, "Describe", b"")[1]["grpc-status"] == "0"


async def stalled(release: asyncio.Event) -> AsyncIterator[bytes]:
    """The beginning of a call, whose rest does not come."""
    yield struct.pack(">BI", 0, 100) + b"beginning"
    await release.wait()


@pytest.mark.parametrize(("limits", "reason"), [(Limits(idle=0.3), b"idle"), (Limits(age=0.3), b"age")])
def test_a_call_that_stops_in_its_middle_is_ended(config: GatewayConfig, limits: Limits, reason: bytes) -> None:
    limited = config.model_copy(update={"limits": limits})
    with browsing(limited) as browser:
        answer = browser.post(f"/{SERVICE}/Predict", content=stalled(asyncio.Event()), headers=HEADERS)
        assert b"grpc-status: 8" in answer.content and reason + b"%3A%20" in answer.content
        assert call(browser, "Describe", b"")[1]["grpc-status"] == "0"


def test_idle_calls_give_way_to_another_browser(config: GatewayConfig) -> None:
    limited = config.model_copy(update={"limits": Limits(streams=4)})

    async def crowd(client: httpx.AsyncClient) -> tuple[list[bytes], bytes, bytes]:
        release = asyncio.Event()

        async def ask(content: Any) -> bytes:
            return (await client.post(f"/{SERVICE}/Describe", content=content, headers=HEADERS)).content

        idle = [asyncio.create_task(ask(stalled(release))) for _ in range(4)]
        await asyncio.sleep(0.1)
        refused = await ask(struct.pack(">BI", 0, 0))
        await asyncio.sleep(1)
        served = await ask(struct.pack(">BI", 0, 0))
        ended = [task.result() for task in idle if task.done()]
        release.set()
        await asyncio.gather(*idle)
        return ended, refused, served

    with browsing(limited) as browser:
        ended, refused, served = browser.run(crowd)
    assert b"grpc-status: 0" in served
    for answer in (*ended, refused):
        assert b"grpc-status: 8" in answer and b"the%20gateway%20answers%204%20calls" in answer
    assert len(ended) == 1


def test_every_response_names_the_only_hosts_that_the_page_may_reach(browser: Browser) -> None:
    for path in ("/", "/about.json", "/encoder/manifest.json", "/missing"):
        policy = browser.get(path).headers["content-security-policy"]
        assert "connect-src 'self' http://localhost:8788 http://127.0.0.1:8788;" in policy
        assert (
            policy.startswith("default-src 'none'") and "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
        )


def test_webassembly_has_its_type_and_the_page_its_facts(browser: Browser) -> None:
    assert browser.get("/app.wasm").headers["content-type"] == "application/wasm"
    assert browser.get("/about.json").json() == {
        "title": "digits",
        "eavesdropper": 8788,
        "cuts": [{"port": 8787, "block": 1, "numbers": 3136}],
    }
    assert browser.get("/encoder/encoder.onnx").text == "encoder.onnx"


def test_another_host_name_opens_nothing(browser: Browser) -> None:
    assert browser.get("/", headers={"host": "evil.example"}).status_code == 400


def test_without_an_eavesdropper_only_the_gateway_is_reached(config: GatewayConfig) -> None:
    assert "connect-src 'self';" in content_security_policy(config.model_copy(update={"eavesdropper": None}))


def test_a_folder_without_its_file_is_named(config: GatewayConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^pages: .* holds no index\.html"):
        application(config.model_copy(update={"pages": tmp_path}))


@contextmanager
def process(config: GatewayConfig) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """Run the gateway as a process; yield it and its address."""
    path = config.ready.with_name("gateway-config.json")
    path.write_text(config.model_dump_json())
    command = [sys.executable, "-m", "server", "gateway", "--config", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        try:
            deadline = time.monotonic() + 20
            while not config.ready.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            host, _, port = json.loads(config.ready.read_text())["address"].partition(":")
            yield running, (host, int(port))
        finally:
            running.kill()


CALL = f"POST /{SERVICE}/Describe HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web+proto\r\n"
UNFINISHED = {
    "nothing": b"",
    "half a line": b"GET / HT",
    "half the headers": b"GET / HTTP/1.1\r\nhost: local",
    "no body": f"{CALL}content-length: 100\r\n\r\n".encode(),
    "no reading": b"GET /large.wasm HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "the next one": b"GET /about.json HTTP/1.1\r\nhost: localhost\r\n\r\nGET /",
}
# More than the buffers of a link hold: a client that does not read lets the gateway wait.
LARGE = bytes(16 << 20)


class Clients:
    """Clients of a gateway's process, on sockets that stay open."""

    def __init__(self, address: tuple[str, int], stack: contextlib.ExitStack) -> None:
        self._address = address
        self._stack = stack

    def ask(self, content: bytes) -> socket.socket:
        """Send these bytes on a connection of their own."""
        connection = self._stack.enter_context(socket.create_connection(self._address, timeout=10))
        connection.sendall(content)
        return connection

    def crowd(self, content: bytes) -> None:
        """Send these bytes on more connections than the gateway holds."""
        for _ in range(MOST_CONNECTIONS + 50):
            self.ask(content)

    def is_one_served(self) -> bool:
        """Ask for a page as a browser does, which tries again where its connection is closed."""
        for _ in range(50):
            try:
                with urllib.request.urlopen("http://{}:{}/about.json".format(*self._address), timeout=5) as answer:
                    return bool(json.load(answer)["title"] == "digits")
            except ConnectionResetError:
                time.sleep(0.1)
        return False


def read(connection: socket.socket) -> bytes:
    """Return what a connection receives until the gateway closes it."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65_536):
            received += data
    return received


def test_requests_that_are_half_sent_too_long_or_never_read_are_ended(config: GatewayConfig) -> None:
    (config.pages / "large.wasm").write_bytes(LARGE)
    limited = config.model_copy(update={"limits": Limits(idle=0.6)})
    with contextlib.ExitStack() as stack, process(limited) as (running, address):
        clients = Clients(address, stack)
        ended = {name: clients.ask(content) for name, content in UNFINISHED.items()}
        # Bytes that trickle in gain no time.
        slow, sent = clients.ask(b"GET / HTTP/1.1\r\nx: "), 0
        with pytest.raises(OSError):
            while sent < 200:
                slow.sendall(b"x")
                sent += 1
                time.sleep(0.05)
        assert 5 < sent < 100
        answers = {name: read(connection) for name, connection in ended.items()}
        assert answers["nothing"] == answers["half a line"] == answers["half the headers"] == b""
        assert b"grpc-status: 8" in answers["no body"] and answers["the next one"].count(b"HTTP/1.1 200") == 1
        assert len(answers["no reading"]) < len(LARGE)
        assert read(clients.ask(b"GET / HTTP/1.1\r\nx: " + b"x" * (1 << 20))).startswith(b"HTTP/1.1 400 ")
        clients.crowd(UNFINISHED["half the headers"])
        assert clients.is_one_served()
        running.send_signal(signal.SIGTERM)
        assert running.wait(5) == 0


@pytest.mark.study
@pytest.mark.parametrize("name", UNFINISHED)
def test_a_crowd_that_lets_the_gateway_wait_locks_out_nobody(config: GatewayConfig, name: str) -> None:
    (config.pages / "large.wasm").write_bytes(LARGE)
    limited = config.model_copy(update={"limits": Limits(idle=2)})
    with contextlib.ExitStack() as stack, process(limited) as (running, address):
        clients = Clients(address, stack)
        clients.crowd(UNFINISHED[name])
        assert clients.is_one_served()
        running.send_signal(signal.SIGTERM)
        assert running.wait(5) == 0


def test_as_a_process_it_says_where_it_listens_and_ends_in_order(config: GatewayConfig) -> None:
    with process(config) as (running, address):
        with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/about.json") as answer:
            assert json.load(answer)["title"] == "digits"
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=10)
    assert (running.returncode, errors) == (0, "") and not config.ready.exists()
