"""Captures of faults that users met, each with a README that says what is right. They are data beside the code.

Each is read in this process, as `wireleak inspect` does it. A case that has no line below must at least be read to its
end without a fault of the reader.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adversary.tap.decode.observation import Observation
from adversary.tap.decode.read import events
from adversary.tap.inspect.command import inspect, main

ROOT = Path(__file__).parents[3]
CASES = next((path / "shared" / "cases" for path in ROOT.parents if (path / "shared" / "cases").is_dir()), None)
WIRE = sorted(CASES.glob("wire/*/input.pcap*")) if CASES else []
HOSTILE = sorted(path for path in CASES.glob("hostile/*") if path.suffix != ".md") if CASES else []
pytestmark = pytest.mark.skipif(CASES is None, reason="the folder shared/cases with captures of faults is not there")

OUR_CAPTURE = {"activation": 3, "prediction": 3}
# What a case must yield: tensors by kind.
KINDS: dict[str, dict[str, int]] = {
    "flower-legacy-join": {"global-model": 8, "model-update": 6},
    "flower-no-syn": {"global-model": 4, "model-update": 4},
    "nflog-like-unknown-link": {},
} | dict.fromkeys(
    ("gre", "gzip", "ip-fragments", "ipip", "pipe", "plain-ethernet", "ppp", "rst-out-of-window", "vxlan"), OUR_CAPTURE
)
# Cases in which something is wrong with the capture itself.
FAULTS = ("late-start",)


def name_of(path: Path) -> str:
    return path.parent.name


def content(name: str) -> Any:
    assert CASES is not None
    (path,) = CASES.glob(f"wire/{name}/input.pcap*")
    return inspect([path])


@pytest.mark.parametrize("path", WIRE, ids=name_of)
def test_each_case_is_read_without_a_fault(path: Path) -> None:
    found = inspect([path])
    if path.parent.name not in FAULTS:
        assert found["faults"] == []
    assert found["notes"] == []
    assert "cannot be decoded" not in json.dumps(found)
    if path.parent.name in KINDS:
        assert found["kinds"] == KINDS[path.parent.name]


def test_a_packet_that_is_not_read_is_counted_by_name() -> None:
    assert content("nflog-like-unknown-link")["skipped"] == {"link type 147, which is not known": 28}


def test_times_of_one_side_begin_with_its_first_packet() -> None:
    for name in ("syn-unanswered", "one-side-data"):
        found = content(name)
        assert (found["first"], found["duration"]) == (1_700_000_000.0, 0.0)


def test_bytes_of_a_reset_count() -> None:
    (row,) = content("data-with-rst")["streams"]
    assert (row["up"], row["down"]) == (5, 7)


def test_updates_of_a_link_without_its_beginning_come_in_order_and_with_their_rounds() -> None:
    assert CASES is not None
    late, whole = (
        [
            (one.kind, one.round, one.name, one.tensor.tobytes())
            for one in events([path])
            if isinstance(one, Observation)
        ]
        for path in (CASES / "wire" / "flower-no-syn" / name for name in ("input.pcap", "whole.pcap"))
    )
    assert late == whole and [number for _, number, *_ in late] == [1] * 4 + [2] * 4


def test_updates_of_flower_s_first_protocol_have_rounds() -> None:
    assert CASES is not None
    path = CASES / "wire" / "flower-legacy-join" / "input.pcap"
    found = [(one.kind.value, one.round) for one in events([path]) if isinstance(one, Observation) and one.name == "0"]
    assert found == [
        ("model-update", None),
        *[("global-model", 1), ("model-update", 1), ("global-model", 1)],
        *[("global-model", 2), ("model-update", 2), ("global-model", 2)],
    ]


def test_messages_of_one_answer_are_counted() -> None:
    for name, path, up, down in (("grpc-web-trailers", "/a.B/C", 3, 3), ("http2-no-content-type", "/x", 0, 12)):
        rows = {row["method"]: row for row in content(name)["calls"]}
        assert (rows[path]["up"]["bytes"], rows[path]["down"]["bytes"]) == (up, down)


def test_an_upgrade_to_http2_is_followed() -> None:
    assert [row["method"] for row in content("h2c-upgrade")["calls"]] == ["/"]


def test_a_capture_that_starts_late_says_so_and_is_read_on() -> None:
    found = content("late-start")
    assert found["kinds"].get("activation", 0) >= 2
    assert found["streams"][0]["transport"] == "plaintext HTTP/2"
    assert any("start" in fault and "missing" in fault for fault in found["faults"])
    assert all(row["inferred"] for row in found["calls"])


@pytest.mark.parametrize("how", ["pipe", "stdin"])
def test_a_pipe_and_standard_input_are_read(how: str) -> None:
    assert CASES is not None
    path = CASES / "wire" / "pipe" / "input.pcap"
    command = [sys.executable, "-m", "adversary", "inspect", "--json", "/dev/stdin" if how == "pipe" else "-"]
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as cat:
        done = subprocess.run(command, stdin=cat.stdout, capture_output=True, text=True, cwd=ROOT)
    assert json.loads(done.stdout)["kinds"] == OUR_CAPTURE


@pytest.mark.parametrize("path", [path for path in HOSTILE if "bomb" not in path.name], ids=lambda path: path.name)
def test_a_hostile_capture_is_read_to_its_end(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([path]) == 0
    assert main([path], as_json=True) == 0
    out, err = capsys.readouterr()
    assert err == "" and "\x1b" not in out and "\x07" not in out
    out.encode()
    if path.name in ("arrayrecord-body-list.pcap", "shape-zero-times-huge.pcap"):
        assert "fault: " in out
    else:
        assert "fault: " not in out


@pytest.mark.parametrize("path", [path for path in HOSTILE if "bomb" in path.name], ids=lambda path: path.name)
def test_a_bomb_takes_little_memory_and_time(wire: Any, path: Path) -> None:
    cost = wire.cost_of(path)
    assert cost["rc"] == 0 and cost["mib"] < 512 and cost["seconds"] < 10
