"""The relay as a process: what it forwards, and what tshark reads from its captures."""

import contextlib
import hashlib
import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from wireleak.common.wire import bind, channel_options, decode_tensor, encode_tensor, open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire import split_head_pb2_grpc as rpc

RST = 4
needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed: make deps-system")


def write_config(folder: Path, upstreams: dict[str, str], listen: str = "127.0.0.1:0") -> Path:
    links = [
        {"name": name, "listen": listen, "upstream": upstream, "capture": str(folder / f"{name}.pcap")}
        for name, upstream in upstreams.items()
    ]
    path = folder / "config.json"
    path.write_text(json.dumps({"links": links, "ready": str(folder / "ready.json")}))
    return path


def start(config: Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "adversary", "relay", "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def addresses(folder: Path) -> dict[str, tuple[str, int]]:
    links = json.loads((folder / "ready.json").read_text())["links"]
    return {name: (text.rpartition(":")[0].strip("[]"), int(text.rpartition(":")[2])) for name, text in links.items()}


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    return process.returncode, errors


@contextlib.contextmanager
def relaying(folder: Path, upstream: str, listen: str = "127.0.0.1:0") -> Iterator[tuple[str, int]]:
    """Yield the address of a relay to `upstream`; its end must be orderly and silent."""
    process = start(write_config(folder, {"link": upstream}, listen))
    try:
        yield addresses(folder)["link"]
    finally:
        result = stop(process)
    assert result == (0, "")


@contextlib.contextmanager
def tcp_server(handle: Any, host: str = "127.0.0.1") -> Iterator[str]:
    """Yield "host:port" of a server that calls `handle(socket)` in a thread per connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, backlog=512)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port = listener.getsockname()[1]
    yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def receive_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def echo_all(sock: socket.socket) -> None:
    with sock:
        while data := sock.recv(1 << 16):
            sock.sendall(data)


def tshark(path: Path, *arguments: str) -> str:
    command = ["tshark", "-r", str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    complaints = [line for line in done.stderr.splitlines() if "Running as user" not in line]
    assert complaints == []
    return done.stdout


def assert_no_warning(path: Path) -> None:
    """No packet is malformed, flagged by the TCP analysis or worth an expert warning, and IP checksums hold."""
    odd = "tcp.analysis.flags || _ws.malformed || _ws.expert.severity >= 0x600000"
    assert tshark(path, "-Y", odd) == ""
    assert tshark(path, "-o", "ip.check_checksum:TRUE", "-Y", "ip.checksum.status == 0") == ""


@pytest.fixture
def split_head() -> Iterator[str]:
    """Address of a SplitHead whose predictions are the activations."""

    class Echo(rpc.SplitHeadServicer):
        Describe = rpc.SplitHeadServicer.Describe
        Train = rpc.SplitHeadServicer.Train

        def Predict(self, request_iterator: Any, context: Any) -> Iterator[pb.PredictResponse]:  # noqa: N802
            for request in request_iterator:
                yield pb.PredictResponse(sequence=request.sequence, prediction=request.activation)

    server = grpc.server(futures.ThreadPoolExecutor(4), options=channel_options())
    rpc.add_SplitHeadServicer_to_server(Echo(), server)
    port = bind(server, "127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@needs_tshark
def test_tshark_reads_a_grpc_conversation_without_a_warning(tmp_path: Path, split_head: str, streams: Any) -> None:
    shapes = [(1, 4), (64, 32), (1 << 20,), (3 << 20,)]
    tensors = [np.random.default_rng(i).random(shape, np.float32) for i, shape in enumerate(shapes)]
    with relaying(tmp_path, split_head) as (host, port):
        channel = open_channel(f"{host}:{port}")
        requests = [pb.PredictRequest(sequence=i, activation=encode_tensor(x)) for i, x in enumerate(tensors)]
        answers = [decode_tensor(a.prediction) for a in rpc.SplitHeadStub(channel).Predict(iter(requests))]
        channel.close()
        time.sleep(0.1)
    for sent, answer in zip(tensors, answers, strict=True):
        np.testing.assert_array_equal(sent, answer)
    capture = tmp_path / "link.pcap"
    assert_no_warning(capture)
    server_port = int(split_head.rpartition(":")[2])
    both = streams(capture)
    assert all(server_port in key for key in both)
    up = next(data for key, data in both.items() if key[1] == server_port)
    down = next(data for key, data in both.items() if key[0] == server_port)
    for data in (up, down):
        # HTTP/2 cuts a message into frames wherever its windows end, so look for pieces: a cut spoils one.
        for tensor in tensors:
            start = tensor.tobytes()[:4096]
            pieces = [start[at : at + 256] for at in range(0, len(start), 256)]
            assert sum(piece in data for piece in pieces) >= max(1, len(pieces) - 1)
    decode = ["-d", f"tcp.port=={server_port},http2", "-Y", "grpc.message_length", "-T", "fields"]
    lengths = tshark(capture, *decode, "-e", "tcp.dstport", "-e", "grpc.message_length").splitlines()
    seen = [int(n) for line in lengths if line.startswith(f"{server_port}\t") for n in line.split("\t")[1].split(",")]
    assert seen == [request.ByteSize() for request in requests]


@needs_tshark
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_many_parallel_connections_are_byte_exact(tmp_path: Path, host: str, streams: Any) -> None:
    # Plain text, every word another: tshark takes random bytes for some protocol or other now and then, and complains.
    words = " ".join(f"{number:06d}" for number in range(40_000)).encode()
    payloads = [words[7 * 100 * i :][: 200_000 + 1000 * i] for i in range(40)]
    used: dict[int, bytes] = {}

    def talk(address: Any, payload: Any) -> bool:
        with socket.create_connection(address) as sock:
            used[sock.getsockname()[1]] = payload

            def send() -> None:
                sock.sendall(payload)
                sock.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            answer = receive_all(sock)
            sender.join()
            return hashlib.sha256(answer).digest() == hashlib.sha256(payload).digest()

    listen = "[::1]:0" if ":" in host else "127.0.0.1:0"
    with (
        tcp_server(echo_all, host) as upstream,
        relaying(tmp_path, upstream, listen) as address,
        futures.ThreadPoolExecutor(len(payloads)) as pool,
    ):
        assert all(pool.map(lambda payload: talk(address, payload), payloads))
        time.sleep(0.05)
    capture = tmp_path / "link.pcap"
    found = streams(capture)
    server_port = int(upstream.rpartition(":")[2])
    assert len(found) == 2 * len(payloads)
    for port, payload in used.items():
        assert found[port, server_port] == payload
        assert found[server_port, port] == payload
    assert_no_warning(capture)


def test_half_close_is_passed_on(tmp_path: Path) -> None:
    def answer_after_end(sock: Any) -> None:
        with sock:
            data = receive_all(sock)
            sock.sendall(b"%d bytes, then the end" % len(data))

    with (
        tcp_server(answer_after_end) as upstream,
        relaying(tmp_path, upstream) as address,
        socket.create_connection(address) as sock,
    ):
        sock.sendall(bytes(3_000_000))
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"3000000 bytes, then the end"


def test_a_slow_reader_holds_the_sender_back(tmp_path: Path, streams: Any) -> None:
    release = threading.Event()

    def read_late(sock: Any) -> None:
        with sock:
            release.wait(20)
            receive_all(sock)

    sent = 0
    with (
        tcp_server(read_late) as upstream,
        relaying(tmp_path, upstream) as address,
        socket.create_connection(address) as sock,
    ):
        sock.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while sent < 1 << 28:
                sent += sock.send(bytes(1 << 20))
        assert sent < 1 << 27
        release.set()
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    (data,) = [data for data in streams(tmp_path / "link.pcap").values() if data]
    assert len(data) == sent


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_is_passed_on_and_recorded(tmp_path: Path, who: str, read_segments: Any) -> None:
    outcome: list[bytes | str] = []
    heard = threading.Event()

    def reset(sock: Any) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def handle(sock: Any) -> Any:
        sock.recv(5)
        if who == "server":
            return reset(sock)
        try:
            outcome.append(sock.recv(5))
        except ConnectionResetError:
            outcome.append("reset")
        return heard.set()

    with (
        tcp_server(handle) as upstream,
        relaying(tmp_path, upstream) as address,
        socket.create_connection(address) as sock,
    ):
        sock.sendall(b"hello")
        time.sleep(0.2)
        if who == "server":
            with pytest.raises(ConnectionResetError):
                sock.recv(5)
        else:
            reset(sock)
            assert heard.wait(5)
            assert outcome == ["reset"]
    segments, _ = read_segments(tmp_path / "link.pcap")
    assert segments[-1].flags & RST
    assert (segments[-1].sport == int(upstream.rpartition(":")[2])) == (who == "server")


def test_upstream_down_disconnects_the_client_and_the_relay_goes_on(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        down = f"127.0.0.1:{unused.getsockname()[1]}"
    with tcp_server(echo_all) as up:
        process = start(write_config(tmp_path, {"down": down, "up": up}))
        with socket.create_connection(addresses(tmp_path)["down"]) as sock, pytest.raises(ConnectionResetError):
            sock.recv(1)
        with socket.create_connection(addresses(tmp_path)["up"]) as sock:
            sock.sendall(b"still here")
            assert sock.recv(10) == b"still here"
        status, errors = stop(process, signal.SIGINT)
    assert status == 0
    assert errors.startswith(f"tap: down: upstream {down}: Connection refused; the client 127.0.0.1:")
    assert len(errors.splitlines()) == 1


def test_one_link_by_flags(tmp_path: Path, streams: Any) -> None:
    script = "import sys; from pathlib import Path; from adversary.tap.sources.relay import main_single; " + (
        "main_single(sys.argv[1], sys.argv[2], Path(sys.argv[3]))"
    )
    output = tmp_path / "tap.pcap"
    with tcp_server(echo_all) as upstream:
        command = [sys.executable, "-c", script, "127.0.0.1:0", upstream, str(output)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:2] == ["tap:", "link:"]
        host, port = words[2].split(":")
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(b"by flags")
            assert sock.recv(100) == b"by flags"
        assert stop(process) == (0, "")
    assert sorted(streams(output).values()) == [b"by flags", b"by flags"]
    done = subprocess.run([*command[:4], "nowhere", str(output)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("tap: --upstream: 'nowhere' is no address")
