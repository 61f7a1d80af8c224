"""`python -m server head` as a process: ready file, signals, mistakes, TLS, checkpoints."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from server.__main__ import app
from server.admin import HeadAdmin
from wireleak.common.models import save_weights
from wireleak.common.wire import Security, open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub
from wireleak.common.wire.turns import NODE


@pytest.fixture
def launch(settings: dict[str, Any], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def begin(**changes: Any) -> subprocess.Popen[str]:
        path = tmp_path / f"config-{len(running)}.json"
        path.write_text(json.dumps(settings | changes))
        command = [sys.executable, "-m", "server", "head", "--config", str(path)]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def invoke(settings: dict[str, Any], tmp_path: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """Run the command in this process: quicker, for what ends before it serves."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(**changes: Any) -> tuple[int, str]:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(settings | changes))
        result = CliRunner().invoke(app, ["head", "--config", str(path)])
        return result.exit_code, result.stderr

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def address(ready: str) -> str:
    end = time.monotonic() + 30
    while not Path(ready).exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    return str(json.loads(Path(ready).read_text())["address"])


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def silence() -> Iterator[pb.PredictRequest]:
    time.sleep(60)
    yield pb.PredictRequest()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_ends_in_order(
    launch: Any, settings: dict[str, Any], train_request: Any, number: signal.Signals
) -> None:
    process = launch()
    where = address(settings["ready"])
    with open_channel(where) as channel, ExitStack() as stack:
        stub = SplitHeadStub(channel)
        assert stub.Describe(pb.DescribeRequest()).classes == 3
        # Streams that nobody ends, garbage, and a client that waits for its turn do not hold it up.
        hanging: list[Any] = [stub.Predict(silence()) for _ in range(20)]
        for place in range(90):
            other = stack.enter_context(socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2]))))
            other.sendall((b"", b"GET / HTTP/1.1\r\n\r\n", PREFACE, PREFACE + bytes(60))[place % 4])
        HeadAdmin(Path(settings["ready"])).begin([1, 2], timeout=100)
        hanging.append(stub.Train(iter([train_request()]), metadata=((NODE, "2"),)))
        time.sleep(0.3)
        process.send_signal(number)
        assert process.wait(5) == 0
        for call in hanging:
            call.cancel()
    assert process.stderr.read() == ""
    assert not Path(settings["ready"]).exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"plan": {"rounds": 0}}, "plan.rounds: Input should be greater than 0"),
        ({"modle": 1}, "modle: no key called 'modle'"),
        ({"security": {"cert": None}}, "security.cert: "),
        ({"checkpoints": "here"}, "checkpoints: here is not absolute"),
        ({"model": {"name": "strided28", "input_shape": [1, 28, 28], "classes": 2, "cut": 9}}, "model: cut: strided28"),
        ({"security": {"ca": "/nowhere.pem"}}, "security: a TLS server needs certificate and key"),
        ({"security": {"certificate": "/nowhere.pem", "key": "/no.key"}}, "/no.key: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line(invoke: Any, changes: dict[str, Any], line: str) -> None:
    code, errors = invoke(**changes)
    assert code == 2
    # A blocked signal would be inherited by every process that is started later.
    assert not {signal.SIGINT, signal.SIGTERM} & signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert errors.startswith(f"server head: {line}")
    assert errors.count("\n") == 1


def test_a_port_in_use_is_one_line(launch: Any, settings: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        process = launch(address=where)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert errors == f"server head: cannot listen on {where}: the port is in use; choose another\n"
    assert not Path(settings["ready"]).exists()


def test_a_head_starts_from_the_newest_complete_checkpoint(settings: dict[str, Any], start_head: Any) -> None:
    first = start_head()
    folder = Path(settings["checkpoints"])
    encoder = first.stage.model.network().split(2)[0]
    Path(settings["ready"]).write_text(json.dumps({"admin": f"127.0.0.1:{first.admin_port}"}))
    admin = HeadAdmin(Path(settings["ready"]))
    for server_round in (9, 10, 11):
        for parameter in first.stage.head.parameters():
            torch.nn.init.constant_(parameter, server_round)
        admin.save(server_round)
        if server_round < 11:
            save_weights(encoder, folder / f"encoder-{server_round}.safetensors")
    assert all((p == 10).all() for p in start_head().stage.head.parameters())
    admin.load(9)
    assert all((p == 9).all() for p in first.stage.head.parameters())
    admin.load(0)
    wanted = first.stage.model.network().split(2)[1].state_dict()
    torch.testing.assert_close(first.stage.head.state_dict(), wanted, rtol=0, atol=0)


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.ca = folder / f"{name}.pem"
        self._write(self.ca, self._builder(self.name, self.key).add_extension(x509.BasicConstraints(True, 0), True))

    def issue(self, name: str) -> dict[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        paths = {"certificate": str(self.folder / f"{name}.crt"), "key": str(self.folder / f"{name}.key")}
        self._write(Path(paths["certificate"]), self._builder(subject, key).add_extension(names, False))
        Path(paths["key"]).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    def _write(self, path: Path, builder: x509.CertificateBuilder) -> None:
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def describe(port: int, security: Security) -> pb.Description:
    with open_channel(f"127.0.0.1:{port}", security) as channel:
        return SplitHeadStub(channel).Describe(pb.DescribeRequest(), timeout=10)


def test_tls_and_mutual_tls(start_head: Any, tmp_path: Path, failure: Any) -> None:
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    service, device, stranger = ours.issue("service"), ours.issue("device"), other.issue("stranger")

    def identity(paths: dict[str, str]) -> dict[str, Path]:
        return {name: Path(path) for name, path in paths.items()}

    tls = start_head(security=service)
    assert describe(tls.port, Security(ca=ours.ca)).classes == 3
    for wrong in (Security(), Security(ca=other.ca)):
        code, _ = failure(lambda wrong=wrong: describe(tls.port, wrong))
        assert code is grpc.StatusCode.UNAVAILABLE

    mutual = start_head(security=service | {"ca": str(ours.ca)})
    assert describe(mutual.port, Security(ca=ours.ca, **identity(device))).classes == 3
    for wrong in (Security(ca=ours.ca), Security(ca=ours.ca, **identity(stranger))):
        code, _ = failure(lambda wrong=wrong: describe(mutual.port, wrong))
        assert code is grpc.StatusCode.UNAVAILABLE
