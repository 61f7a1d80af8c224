import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adversary.tap.decode.events import StreamEnded, StreamSeen, Transport
from adversary.tap.decode.payload import ProtocolError
from adversary.tap.decode.read import bursts, events, traffic
from adversary.tap.decode.tls import TlsSide


def record(size: Any, kind: Any = 23) -> Any:
    return bytes([kind, 3, 3]) + size.to_bytes(2) + bytes(size)


HELLO = bytes([22, 3, 1, 0, 50, 1]) + bytes(49)
REPLY = bytes([22, 3, 3, 0, 40, 2]) + bytes(39)
PIECES = [(0, HELLO), (1, REPLY + record(1, 20)), (0, record(300) + record(1000)), (1, record(77)), (0, record(5, 21))]


@pytest.fixture
def capture(tmp_path: Path, wire: Any) -> Any:
    def capture(pieces: Any, **options: Any) -> Path:
        path = tmp_path / "tls.pcap"
        snap = options.pop("snap", None)
        path.write_bytes(wire.pcap(wire.conversation(pieces, **options), snap=snap))
        return path

    return capture


@pytest.mark.parametrize("segment", [1, 100, 5000])
def test_records_in_pieces(segment: int) -> None:
    side, data = TlsSide(), b"".join(d for s, d in PIECES if s == 0)
    found = [r for k in range(0, len(data), segment) for r in side.feed(0.0, memoryview(data[k : k + segment]))]
    assert [(r.type, r.size) for r in found] == [(22, 50), (23, 300), (23, 1000), (21, 5)]


@given(st.binary(max_size=100))
def test_random_bytes_raise_only_protocol_errors(data: Any) -> None:
    with contextlib.suppress(ProtocolError):
        list(TlsSide().feed(0.0, memoryview(data)))


def test_tls_is_recognised_and_yields_no_tensor(capture: Any) -> None:
    found = list(events([capture(PIECES)]))
    assert [type(e) for e in found] == [StreamSeen, StreamEnded, StreamEnded]
    assert isinstance(found[0], StreamSeen)
    assert found[0].transport is Transport.TLS and found[0].client == "10.0.0.1:40000"
    assert not any(e.broken for e in found if isinstance(e, StreamEnded))


@pytest.mark.parametrize("segment", [50, 400, 3000])
def test_traffic_of_tls_is_its_application_records(capture: Any, segment: int) -> None:
    found = list(traffic([capture(PIECES, segment=segment)]))
    assert [(r.up, r.bytes) for r in found] == [(True, 300), (True, 1000), (False, 77)]
    assert {(r.transport, r.client, r.server) for r in found} == {(Transport.TLS, "10.0.0.1:40000", "10.0.0.2:50051")}
    assert [r.time for r in found] == sorted(r.time for r in found)


def test_traffic_of_plaintext_is_its_packets_payload(capture: Any, wire: Any) -> None:
    pieces, _ = wire.split_head()
    found = list(traffic([capture(pieces, segment=500)]))
    for up in (True, False):
        assert sum(r.bytes for r in found if r.up == up) == sum(len(d) for s, d in pieces if (s == 0) == up)


def test_bursts_join_what_one_side_sends_at_once(capture: Any) -> None:
    assert [(r.up, r.bytes) for r in bursts(traffic([capture(PIECES)]))] == [(True, 1300), (False, 77)]


def test_short_snap_length_still_gives_sizes(capture: Any) -> None:
    pieces = [(0, HELLO), (0, record(700)), (0, record(700)), (1, record(200))]
    found = list(traffic([capture(pieces, snap=60)]))
    # Packet by packet: no record can be told from another.
    assert [(r.up, r.bytes) for r in found] == [(True, 55), (True, 705), (True, 705), (False, 205)]
    assert {r.transport for r in found} == {Transport.TLS}
