"""The attack on sizes counts what a capture of TLS holds, and never takes a cut one for a whole one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adversary.attacks.harness.run import attack
from adversary.tap.decode.packets.pcap import decoder
from adversary.tap.decode.read import connections
from tests.adversary.attacks.conftest import OWN
from tests.adversary.tap.conftest import pcap
from wireleak.common.reads import CONNECTION, MESSAGE
from wireleak.lab.steps.score import partly_of


def part(path: Path, out: Path, start: float, end: float) -> Path:
    """Write a part of a capture's packets."""
    data = path.read_bytes()
    packets = [bytes(packet.data) for packet in decoder(data[:8]).feed(data)]
    kept = packets[int(start * len(packets)) : int(end * len(packets))]
    out.write_bytes(pcap(kept, link=int.from_bytes(data[20:24], "little")))
    return out


def read_of(config: Any, device: Path, victims: Path, count: int = OWN) -> dict[str, Any]:
    captures = {"device": [str(device)], "victims": [str(victims)]}
    path, out = config(link="tls", attack="sizes", target="left", captures=captures, victims=count)
    attack(path)
    meta: dict[str, Any] = json.loads((out / "meta.json").read_text())
    return meta


@pytest.fixture
def tls(captures: Any) -> Path:
    """A TLS link on which `OWN` inputs crossed, captured from its start to its end."""
    path: Path = captures["tls"]["device"]
    assert connections([path]) == (1, 1, False, False)
    return path


def test_a_whole_capture_has_no_mark(config: Any, tls: Path) -> None:
    meta = read_of(config, tls, tls)
    assert partly_of(meta)[""] == "" and meta["unread"] == []
    assert [(one["kind"], one["count"]) for one in meta["reads"][""]] == [(MESSAGE, OWN), *[(CONNECTION, 1)] * 2]


def test_a_capture_cut_in_half_says_how_many_messages_it_held(config: Any, tls: Path, tmp_path: Path) -> None:
    meta = read_of(config, tls, part(tls, tmp_path / "cut.pcap", 0, 0.5))
    count = meta["reads"][""][0]["count"]
    assert 0 < count < OWN and meta["unread"] == list(range(count, OWN))
    assert partly_of(meta)[""] == f"read {count} of 360 messages; 0 of 1 whole connection"


def test_a_capture_that_begins_late_has_the_last_messages(config: Any, tls: Path, tmp_path: Path) -> None:
    meta = read_of(config, tls, part(tls, tmp_path / "late.pcap", 0.5, 1))
    count = meta["reads"][""][0]["count"]
    assert 0 < count < OWN and meta["unread"] == list(range(OWN - count))


def test_messages_of_a_capture_without_start_and_end_have_no_place(config: Any, tls: Path, tmp_path: Path) -> None:
    meta = read_of(config, tls, part(tls, tmp_path / "middle.pcap", 0.3, 0.7))
    assert "the guess is the prior" in meta["prior"] and partly_of(meta)[""].endswith("0 of 1 whole connection")


def test_where_the_number_is_not_known_one_line_says_so(config: Any, tls: Path, tmp_path: Path) -> None:
    device = part(tls, tmp_path / "device.pcap", 0, 0.1)
    meta = read_of(config, device, part(tls, tmp_path / "cut.pcap", 0, 0.5))
    assert "0 of 1 whole connection" in partly_of(meta)[""]
    assert sum("sizes do not show how many" in note for note in meta["notes"]) == 1


def test_a_connection_that_is_missing_shows_in_the_bytes(config: Any, tls: Path) -> None:
    meta = read_of(config, tls, tls, 900)
    assert partly_of(meta)[""] == "read 360 of 900 messages"
