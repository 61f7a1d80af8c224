"""A linear "encoder" whose activations really cross a tapped wire, plaintext and TLS."""

from __future__ import annotations

import datetime
import ipaddress
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

from wireleak.common.wire import Security, bind, decode_tensor, encode_tensor, open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire import split_head_pb2_grpc as rpc

SHAPE, CODE = (1, 8, 8), (64,)
OWN, VICTIMS = 360, 120


class Head(rpc.SplitHeadServicer):
    """Answers with the task label that the test planted in the activation's last number."""

    Describe = rpc.SplitHeadServicer.Describe
    Train = rpc.SplitHeadServicer.Train

    def Predict(self, requests: Any, context: Any) -> Iterator[pb.PredictResponse]:  # noqa: N802
        for request in requests:
            z = np.asarray(decode_tensor(request.activation), np.float32)
            label = (z[:, -1] > 0).astype(int)
            yield pb.PredictResponse(sequence=request.sequence, prediction=encode_tensor(np.eye(2, dtype="f4")[label]))


def pictures(n: Any, seed: Any) -> Any:
    """Smooth pictures; the attribute is whether the left half is the brighter one, 0 or 1, nearly."""
    rng = np.random.default_rng(seed)
    basis = np.stack([np.outer(np.cos(np.pi * i * (np.arange(8) + 0.5) / 8), np.ones(8)) for i in range(4)])
    basis = np.concatenate([basis, basis.transpose(0, 2, 1)]).reshape(8, 64)
    x = 0.5 + 0.06 * rng.standard_normal((n, 8)) @ basis + 0.05 * rng.standard_normal((n, 64))
    x = np.clip(x, 0, 1).astype(np.float32).reshape(n, *SHAPE)
    left = (x[..., :4].mean((1, 2, 3)) > x[..., 4:].mean((1, 2, 3))).astype(np.int64)
    return x, left


@pytest.fixture(scope="session")
def world() -> Any:
    """The attacker's and the victims' inputs and activations under an invertible linear encoder."""
    rng = np.random.default_rng(7)
    weights = np.linalg.qr(rng.standard_normal((64, 64)))[0].astype(np.float32)
    (own, own_left), (private, private_left) = pictures(OWN, 1), pictures(VICTIMS, 2)
    return SimpleNamespace(
        own=own,
        own_left=own_left,
        private=private,
        private_left=private_left,
        own_seen=(own.reshape(-1, 64) - 0.5) @ weights,
        private_seen=(private.reshape(-1, 64) - 0.5) @ weights,
    )


def _certificate(folder: Any) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "wireleak test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem", folder / "key.pem"


def _stream(address: Any, security: Any, rows: Any) -> Any:
    with open_channel(address, security) as channel:
        requests = (pb.PredictRequest(sequence=i, activation=encode_tensor(row[None])) for i, row in enumerate(rows))
        return sum(1 for _ in rpc.SplitHeadStub(channel).Predict(requests, timeout=30))


@pytest.fixture(scope="session")
def captures(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Real captures by the relay: {"plaintext" or "tls": {"device": path, "victims": path}}."""
    folder = tmp_path_factory.mktemp("captures")
    certificate, key = _certificate(folder)
    server = grpc.server(ThreadPoolExecutor(4))
    rpc.add_SplitHeadServicer_to_server(Head(), server)
    ports = {
        "plaintext": bind(server, "127.0.0.1:0"),
        "tls": bind(server, "127.0.0.1:0", Security(certificate=certificate, key=key)),
    }
    server.start()
    links = [
        {
            "name": f"{link}-{party}",
            "listen": "127.0.0.1:0",
            "upstream": f"127.0.0.1:{port}",
            "capture": str(folder / f"{link}-{party}.pcap"),
        }
        for link, port in ports.items()
        for party in ("device", "victims")
    ]
    config, ready = folder / "relay.json", folder / "ready.json"
    config.write_text(json.dumps({"links": links, "ready": str(ready)}))
    relay = subprocess.Popen([sys.executable, "-m", "adversary", "relay", "--config", str(config)])
    try:
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert relay.poll() is None and time.monotonic() < deadline, "the relay did not start"
            time.sleep(0.02)
        listening = json.loads(ready.read_text())["links"]
        for link in ports:
            security = Security(ca=certificate) if link == "tls" else Security()
            for party, rows in (("device", world.own_seen), ("victims", world.private_seen)):
                assert _stream(listening[f"{link}-{party}"], security, rows) == len(rows)
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(20) == 0
    finally:
        relay.kill()
        relay.wait()
        server.stop(None)
    return {link: {p: folder / f"{link}-{p}.pcap" for p in ("device", "victims")} for link in ports}


@pytest.fixture
def surrogate(world: Any, tmp_path: Path) -> Path:
    """The granted file; the last third of its rows counts as augmented."""
    path = tmp_path / "surrogate.npz"
    np.savez(
        path,
        **{
            "x": world.own,
            "y": (world.own_seen[:, -1] > 0).astype(np.int64),
            "attribute:left": world.own_left,
            "attribute:coin": np.random.default_rng(3).integers(0, 2, OWN),
            "augmented": np.arange(OWN) >= 240,
        },
    )
    return path


@pytest.fixture
def config(captures: Any, surrogate: Path, tmp_path: Path) -> Any:
    """Writes a config for `inversion` on the plaintext captures, with changes; returns its path and `out`."""

    def config(link: Any = "plaintext", **changes: Any) -> Any:
        paths = captures[link]
        content = {
            "attack": "inversion",
            "target": "input",
            "captures": {"device": [str(paths["device"])], "victims": [str(paths["victims"])]},
            "granted": {"surrogate": str(surrogate)},
            "victims": VICTIMS,
            "out": str(tmp_path / "out"),
        } | changes
        path = tmp_path / "config.json"
        path.write_text(json.dumps(content))
        return path, tmp_path / "out"

    return config
