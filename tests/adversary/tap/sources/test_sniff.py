"""The sniffer as a process, on the loopback interface."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SCRIPT = "import sys; from pathlib import Path; from adversary.tap.sources.sniff import main; a = sys.argv[1:]; " + (
    "main(a[0], Path(a[1]), a[2] if len(a) > 2 else '')"
)


@pytest.fixture(scope="module")
def may_sniff() -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not installed: make deps-system")
    if os.geteuid():
        pytest.skip("capturing on an interface needs root")


def sniff(*arguments: Any, **options: Any) -> Any:
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def talk(listener: Any) -> None:
    """Send a line over loopback."""
    with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
        client.sendall(b"seen on the wire")
        assert server.recv(100) == b"seen on the wire"


def tcpdump_of(parent: Any) -> int:
    command = ["pgrep", "-P", str(parent), "tcpdump"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sniffs_what_crosses_loopback_up_to_the_stop(
    tmp_path: Path, may_sniff: Any, number: Any, read_segments: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        # Its own port alone: what else crosses this machine's loopback could make tcpdump drop packets.
        process = sniff("lo", tmp_path / "lo.pcap", f"tcp port {port}")
        assert process.stdout.readline().startswith("tap: sniffing lo")
        talk(listener)
    process.send_signal(number)
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert "packets captured" in output
    segments, _ = read_segments(tmp_path / "lo.pcap")
    assert b"seen on the wire" in b"".join(s.data for s in segments if s.dport == port)


def test_tcpdump_does_not_outlive_a_killed_parent(tmp_path: Path, may_sniff: Any) -> None:
    process = sniff("lo", tmp_path / "lo.pcap", "tcp port 1")
    process.stdout.readline()
    child = tcpdump_of(process.pid)
    process.kill()
    process.communicate()
    for _ in range(50):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"tcpdump {child} outlived its parent")


def test_tcpdump_killed_is_said(tmp_path: Path, may_sniff: Any) -> None:
    process = sniff("lo", tmp_path / "lo.pcap", "tcp port 1")
    process.stdout.readline()
    os.kill(tcpdump_of(process.pid), signal.SIGKILL)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 3
    assert errors.startswith("tap: tcpdump ended: ")


@pytest.mark.parametrize(
    ("interface", "filter_", "line"),
    [
        ("nosuch0", "", "tap: tcpdump cannot start: nosuch0: No such device exists"),
        ("lo", "tcp and and", "tap: tcpdump cannot start: can't parse filter expression"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, may_sniff: Any, interface: str, filter_: str, line: str) -> None:
    process = sniff(interface, tmp_path / "lo.pcap", filter_)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 2
    assert errors.startswith(line)
    assert len(errors.splitlines()) == 1


def test_without_permission_it_says_how_to_get_it(tmp_path: Path, may_sniff: Any) -> None:
    tmp_path.chmod(0o777)
    process = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", SCRIPT, "lo", str(tmp_path / "x")],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert process.returncode == 2
    assert "not permitted to capture on lo: run as root, or sudo setcap" in process.stderr


def test_missing_tcpdump_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from adversary.tap.sources import sniff as module

    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SystemExit) as stopped:
        module.main("lo", tmp_path / "lo.pcap")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "tap: tcpdump is missing; install it: make deps-system\n"


def test_a_capture_is_never_overwritten(tmp_path: Path, may_sniff: Any) -> None:
    (tmp_path / "lo.pcap").write_bytes(b"precious")
    process = sniff("lo", tmp_path / "lo.pcap")
    assert "exists already" in process.communicate(timeout=10)[1]
    assert (tmp_path / "lo.pcap").read_bytes() == b"precious"
