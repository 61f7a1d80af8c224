import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adversary.tap.inspect import command


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adversary", *map(str, arguments)], check=False, capture_output=True, text=True
    )


@pytest.fixture
def capture(tmp_path: Path, wire: Any) -> Path:
    pieces, _ = wire.split_head()
    tls = [(0, bytes([22, 3, 1, 0, 5, 1]) + bytes(4)), (1, bytes([23, 3, 3, 0, 9]) + bytes(9))]
    packets = wire.conversation(pieces) + wire.conversation(tls, client=("10.0.0.7", 41000))
    http2 = wire.Http2()
    unknown = [*http2.opening(), *http2.unary(1, "/a.B/C", b"12345", b"1")]
    lossy = wire.conversation(unknown, client=("10.0.0.8", 42000))
    del lossy[3]
    path = tmp_path / "link.pcap"
    path.write_bytes(wire.pcap(packets + lossy))
    return path


def test_tables_say_who_talked_what_and_how_it_ended(capture: Path) -> None:
    done = run("inspect", capture)
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "10.0.0.1:40000",
        "plaintext HTTP/2",
        "TLS",
        "/wireleak.v1.SplitHead/Predict",
        "activation-gradient",
        "2×3×5",
        "float32",
        "bytes are missing from the capture",
    ):
        assert text in done.stdout


def test_json_counts_everything(capture: Path) -> None:
    done = run("inspect", capture, "--json")
    found = json.loads(done.stdout)
    assert found["kinds"] == {"activation": 6, "prediction": 3, "label": 3, "activation-gradient": 3}
    assert found["senders"]["label"] == {"10.0.0.1:40000": 3}
    assert [row["transport"] for row in found["streams"]].count("TLS") == 1
    calls = {row["method"]: row for row in found["calls"]}
    assert calls["/wireleak.v1.SplitHead/Train"]["calls"] == 1
    assert calls["/wireleak.v1.SplitHead/Train"]["up"]["messages"] == 3
    assert {(row["kind"], tuple(row["shape"]), row["dtype"]) for row in found["tensors"]} == {
        ("activation", (2, 3, 5), "float32"),
        ("activation-gradient", (2, 3, 5), "float32"),
        ("label", (2,), "int64"),
        ("prediction", (2, 2), "float32"),
    }
    assert found["duration"] > 0 and found["first"] >= 1_700_000_000
    assert "10.0.0.2:50051" in found["endpoints"]
    assert len(found["faults"]) >= 1 and found["notes"] == []


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"GIF89a not a capture", "is not a capture"), (None, "cannot be read")]
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "x.pcap"
    if content is not None:
        path.write_bytes(content)
    done = run("inspect", path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"{path}: {reason}") and done.stderr.count("\n") == 1


def test_a_truncated_capture_is_listed_and_noted(capture: Path) -> None:
    capture.write_bytes(capture.read_bytes()[:-7])
    done = run("inspect", capture)
    assert done.returncode == 1
    assert "/wireleak.v1.SplitHead/Predict" in done.stdout
    assert "truncated in the middle of a packet" in done.stderr and done.stderr.count("\n") == 1


def test_the_relay_does_not_pay_for_torch() -> None:
    code = "import adversary.__main__, sys; print(bool({'torch', 'flwr', 'numpy', 'grpc'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(("quiet", "said"), [(False, "s] reading: "), (True, "")])
def test_progress_is_lines_on_stderr_where_no_terminal_shows_a_bar(
    quiet: bool, said: str, capture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_SILENCE", -1.0)
    assert command.main([capture], as_json=True, quiet=quiet) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) and said in printed.err and bool(printed.err) is not quiet
