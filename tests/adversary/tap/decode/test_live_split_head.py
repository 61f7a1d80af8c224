"""A real gRPC conversation on loopback, seen by tcpdump, decoded by us and by tshark."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from adversary.tap.decode.events import MessageSeen, StreamSeen, Transport
from adversary.tap.decode.observation import Kind, Observation
from adversary.tap.decode.read import events, observations, traffic
from wireleak.common.wire import Security, bind, channel_options, decode_tensor, encode_tensor, open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire import split_head_pb2_grpc as pb_grpc
from wireleak.common.wire.padding import pad_message

# Of the messages of training, both ways; those of predictions are not padded.
PAD = 1000
PROTO = Path(__file__).resolve().parents[4] / "proto"


class Head(pb_grpc.SplitHeadServicer):
    def Describe(self, request: Any, context: Any) -> pb.Description:  # noqa: N802
        return pb.Description(model="m", version="v1")

    def Predict(self, requests: Any, context: Any) -> Iterator[pb.PredictResponse]:  # noqa: N802
        for request in requests:
            activation = decode_tensor(request.activation)
            prediction = activation.reshape(len(activation), -1)[:, :2].copy()
            yield pb.PredictResponse(sequence=request.sequence, prediction=encode_tensor(prediction))

    def Train(self, requests: Any, context: Any) -> Iterator[pb.TrainResponse]:  # noqa: N802
        for request in requests:
            gradient = np.negative(decode_tensor(request.activation))
            answer = pb.TrainResponse(sequence=request.sequence, activation_gradient=encode_tensor(gradient), loss=1.5)
            yield pad_message(answer, PAD)


@pytest.fixture(scope="module")
def batches() -> Any:
    rng = np.random.default_rng(3)
    # From one packet to many, and one that outgrows gRPC's first flow-control window.
    shapes = [(1, 4), (2, 8, 7, 7), (8, 16, 30, 30), (4, 64, 64, 64)]
    tensors: list[np.ndarray] = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    return [(tensor, rng.integers(0, 5, len(tensor))) for tensor in [*tensors, tensors[1].astype(np.float16)]]


@contextlib.contextmanager
def serving(security: Any = Security()) -> Iterator[int]:
    server = grpc.server(futures.ThreadPoolExecutor(4), options=channel_options())
    pb_grpc.add_SplitHeadServicer_to_server(Head(), server)
    port = bind(server, "127.0.0.1:0", security)
    server.start()
    yield port
    server.stop(0)


def call(address: Any, batches: Any, security: Any = Security()) -> None:
    with open_channel(address, security) as channel:
        stub = pb_grpc.SplitHeadStub(channel)
        stub.Describe(pb.DescribeRequest(model="m"))
        inputs = [(k, encode_tensor(x), encode_tensor(y)) for k, (x, y) in enumerate(batches)]
        list(stub.Predict(pb.PredictRequest(sequence=k, activation=x) for k, x, _ in inputs))
        batches = (pb.TrainRequest(sequence=k, activation=x, label=y) for k, x, y in inputs)
        list(stub.Train(pad_message(batch, PAD) for batch in batches))


def record(path: Any, batches: Any, server_side: Any = Security(), client_side: Any = Security()) -> Any:
    """Serve, call and record by tcpdump; return the server's port."""
    if shutil.which("tcpdump") is None:
        pytest.skip("needs tcpdump")
    with serving(server_side) as port:
        command = ["tcpdump", "-i", "lo", "-U", "-B", "65536", "--immediate-mode", "-w", str(path), f"tcp port {port}"]
        tap = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert tap.stderr is not None
            if "listening" not in tap.stderr.readline():
                pytest.skip("tcpdump is not permitted here")
            call(f"127.0.0.1:{port}", batches, client_side)
            time.sleep(0.5)
        finally:
            tap.send_signal(signal.SIGINT)
            tap.wait(10)
    return port


@pytest.fixture(scope="module")
def relayed(tmp_path_factory: pytest.TempPathFactory, batches: Any) -> Any:
    folder = tmp_path_factory.mktemp("relayed")
    ready, config, path = folder / "ready.json", folder / "config.json", folder / "link.pcap"
    with serving() as port:
        link = {"name": "link", "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{port}", "capture": str(path)}
        config.write_text(json.dumps({"links": [link], "ready": str(ready)}))
        relay = subprocess.Popen([sys.executable, "-m", "adversary", "relay", "--config", str(config)])
        try:
            deadline = time.monotonic() + 30
            while not ready.exists():
                assert relay.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            call(json.loads(ready.read_text())["links"]["link"], batches)
        finally:
            relay.send_signal(signal.SIGINT)
            relay.wait(10)
    return path, port


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory, batches: Any) -> Any:
    path = tmp_path_factory.mktemp("live") / "lo.pcap"
    return path, record(path, batches)


@pytest.mark.parametrize("source", ["tcpdump", "relay"])
def test_every_tensor_is_decoded_bit_equal(source: str, request: pytest.FixtureRequest, batches: Any) -> None:
    path, port = request.getfixturevalue("capture" if source == "tcpdump" else "relayed")
    found: dict[tuple[str, Kind], list[Observation]] = {}
    for o in observations([path]):
        found.setdefault((o.call, o.kind), []).append(o)
    by_kind = {kind: [rows for (_, k), rows in found.items() if k is kind] for kind in Kind}
    assert {kind: len(calls) for kind, calls in by_kind.items() if calls} == {
        Kind.ACTIVATION: 2,
        Kind.PREDICTION: 1,
        Kind.LABEL: 1,
        Kind.ACTIVATION_GRADIENT: 1,
    }
    for rows in by_kind[Kind.ACTIVATION]:
        same(rows, [x for x, _ in batches])
        assert {o.sender == f"127.0.0.1:{port}" for o in rows} == {False}
    same(by_kind[Kind.LABEL][0], [y for _, y in batches])
    same(by_kind[Kind.PREDICTION][0], [x.reshape(len(x), -1)[:, :2] for x, _ in batches])
    same(by_kind[Kind.ACTIVATION_GRADIENT][0], [-x for x, _ in batches])
    assert {o.sender for o in by_kind[Kind.PREDICTION][0]} == {f"127.0.0.1:{port}"}


def same(rows: Any, sent: Any) -> None:
    assert [o.sequence for o in rows] == list(range(len(sent)))
    for o, tensor in zip(rows, sent, strict=True):
        assert o.tensor.dtype == tensor.dtype and o.tensor.shape == tensor.shape
        assert o.tensor.tobytes() == tensor.tobytes()


def tshark(path: Any, port: Any, *fields: Any) -> Any:
    if shutil.which("tshark") is None:
        pytest.skip("needs tshark")
    command = ["tshark", "-n", "-r", path, "-d", f"tcp.port=={port},http2", "-o", "protobuf.preload_protos:TRUE"]
    # Two cores may record a loopback's packets out of their order, which tshark reads only if asked to.
    command += ["-o", "tcp.reassemble_out_of_order:TRUE"]
    command += ["-o", f'uat:protobuf_search_paths:"{PROTO}","TRUE"', "-Y", "grpc", "-T", "fields", "-E", "occurrence=a"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_tshark_sees_the_same_messages_with_our_proto(capture: Any) -> None:
    path, port = capture
    rows = tshark(path, port, "grpc.message_length", "protobuf.message.name")
    lengths = sorted(int(n) for row in rows for n in row[0].split(",") if n)
    ours = [e for e in events([path]) if isinstance(e, MessageSeen)]
    assert lengths == sorted(e.size for e in ours)
    padded: dict[bool, set[int]] = {e.method.endswith("Train"): set() for e in ours}
    for e in ours:
        padded[e.method.endswith("Train")].add(e.size % PAD)
    assert padded[True] == {0} and len(padded[False]) > 1
    names = sorted(n for row in rows for n in row[1].split(",") if n and n != "wireleak.v1.Tensor")
    named = {"Describe": ("DescribeRequest", "Description")}
    expected = []
    for event in ours:
        method = event.method.rsplit("/", 1)[1]
        request, response = named.get(method, (method + "Request", method + "Response"))
        expected.append("wireleak.v1." + (request if event.client else response))
    assert names == sorted(expected)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("pki")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return folder


def test_under_tls_sizes_and_times_alone(tmp_path: Path, certificate: Path, batches: Any) -> None:
    security = Security(certificate=certificate / "cert.pem", key=certificate / "key.pem")
    path = tmp_path / "tls.pcap"
    record(path, batches, security, Security(ca=certificate / "cert.pem"))
    assert list(observations([path])) == []
    assert [e.transport for e in events([path]) if isinstance(e, StreamSeen)] == [Transport.TLS]
    sent = sum(x.nbytes for x, _ in batches) * 2
    up = sum(record.bytes for record in traffic([path]) if record.up)
    assert sent < up < sent * 1.05
