"""What the relay does when it is killed, the disk is full, or its config is wrong."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def sink() -> Iterator[Any]:
    """Port of a server that reads whatever comes."""

    def drain(sock: Any) -> None:
        with sock, contextlib.suppress(OSError):
            while sock.recv(1 << 16):
                pass

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drain, args=(listener.accept()[0],), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def write_config(folder: Any, port: Any, **changes: Any) -> Any:
    link = {"name": "link", "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{port}"}
    link |= {"capture": str(folder / "link.pcap")} | changes
    path = folder / "config.json"
    path.write_text(json.dumps({"links": [link], "ready": str(folder / "ready.json")}))
    return path


def start(config: Any, **options: Any) -> Any:
    command = [sys.executable, "-m", "adversary", "relay", "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def connect(folder: Any) -> socket.socket:
    host, port = json.loads((folder / "ready.json").read_text())["links"]["link"].split(":")
    return socket.create_connection((host, int(port)))


@pytest.fixture
def read_pcap(read_segments: Any) -> Any:
    """Payload bytes recorded, and the number of bytes behind the last whole record."""

    def read(path: Any) -> Any:
        segments, rest = read_segments(path)
        return b"".join(segment.data for segment in segments), rest

    return read


def refuse(config: Any) -> str:
    """Run a relay that must refuse `config`; return its one line."""
    command = [sys.executable, "-m", "adversary", "relay", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    return done.stderr.strip()


def test_sigkill_leaves_a_readable_prefix(tmp_path: Path, sink: Any, read_pcap: Any) -> None:
    process = start(write_config(tmp_path, sink))
    pattern = bytes(range(256)) * 4096
    sent = 0
    with connect(tmp_path) as sock, contextlib.suppress(ConnectionError):
        while True:
            sent += sock.send(pattern[sent % len(pattern) :])
            if sent > 30_000_000 and process.poll() is None:
                process.kill()
                process.communicate()
    got, _ = read_pcap(tmp_path / "link.pcap")
    assert len(got) > 1_000_000
    assert got == (pattern * (len(got) // len(pattern) + 1))[: len(got)]


def test_what_arrived_is_in_the_file_soon(tmp_path: Path, sink: Any, read_pcap: Any) -> None:
    process = start(write_config(tmp_path, sink))
    assert (tmp_path / "link.pcap").stat().st_size == 24
    with connect(tmp_path) as sock:
        sock.sendall(b"a secret")
        time.sleep(0.3)
        process.kill()
        process.communicate()
    assert read_pcap(tmp_path / "link.pcap") == (b"a secret", 0)


def check_full(process: Any, folder: Any, capture: Any, reason: Any, read_pcap: Any) -> None:
    with connect(folder) as sock, contextlib.suppress(ConnectionError):
        for _ in range(200):
            sock.sendall(os.urandom(100_000))
            time.sleep(0.002)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 3
    assert errors == (
        f"tap: cannot write {capture}: {reason}; all links are closed, what was captured stays readable\n"
    )
    got, rest = read_pcap(capture)
    assert len(got) > 500_000
    assert rest == 0


def test_a_file_that_may_not_grow_ends_the_relay_at_a_packet_boundary(
    tmp_path: Path, sink: Any, read_pcap: Any
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    process = start(write_config(tmp_path, sink), preexec_fn=limit)
    check_full(process, tmp_path, tmp_path / "link.pcap", "File too large", read_pcap)


def test_a_full_disk_ends_the_relay_at_a_packet_boundary(tmp_path: Path, sink: Any, read_pcap: Any) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small tmpfs")
    try:
        capture = disk / "link.pcap"
        process = start(write_config(tmp_path, sink, capture=str(capture)))
        check_full(process, tmp_path, capture, "No space left on device", read_pcap)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_relay_with_all_bytes_written(tmp_path: Path, sink: Any, number: Any, read_pcap: Any) -> None:
    process = start(write_config(tmp_path, sink))
    with connect(tmp_path) as sock:
        sock.sendall(bytes(300_000))
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert read_pcap(tmp_path / "link.pcap") == (bytes(300_000), 0)


def test_a_port_in_use_is_one_line_and_leaves_no_file(tmp_path: Path, sink: Any) -> None:
    line = refuse(write_config(tmp_path, sink, listen=f"127.0.0.1:{sink}"))
    assert line == f"tap: links[0].listen: 127.0.0.1:{sink} is in use; choose another port"
    assert not (tmp_path / "link.pcap").exists()


def test_a_capture_is_never_overwritten(tmp_path: Path, sink: Any) -> None:
    (tmp_path / "link.pcap").write_bytes(b"precious")
    line = refuse(write_config(tmp_path, sink))
    assert line.startswith(f"tap: links[0].capture: {tmp_path / 'link.pcap'} exists already")
    assert (tmp_path / "link.pcap").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"listen": "127.0.0.1"}, "tap: links[0].listen: '127.0.0.1' is no address; write host:port"),
        ({"upstream": "127.0.0.1:99999"}, "tap: links[0].upstream: '127.0.0.1:99999' is no address"),
        ({"upstream": "no.such.host.invalid:1"}, "tap: links[0].upstream: cannot find the host of no.such.host"),
        ({"capture": "/nowhere/link.pcap"}, "tap: links[0].capture: cannot write /nowhere/link.pcap: No such file"),
        ({"speed": 1}, "tap: links[0].speed: no key called 'speed'"),
    ],
)
def test_a_mistake_is_one_line_naming_the_field(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    assert refuse(write_config(tmp_path, 1, **changes)).startswith(line)


def test_two_links_cannot_share_a_capture(tmp_path: Path) -> None:
    links = [
        {"name": name, "listen": "127.0.0.1:0", "upstream": "127.0.0.1:1", "capture": "/tmp/same.pcap"} for name in "ab"
    ]
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"links": links}))
    assert "two links have the same capture" in refuse(path)


def test_a_config_that_is_missing_or_no_json_is_one_line(tmp_path: Path) -> None:
    assert refuse(tmp_path / "none.json").startswith("tap: config: cannot read")
    (tmp_path / "bad.json").write_text("{")
    assert refuse(tmp_path / "bad.json").startswith("tap: config: Invalid JSON")
