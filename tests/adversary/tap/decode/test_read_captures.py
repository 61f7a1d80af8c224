import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adversary.tap.decode.events import CallEnded, MessageSeen, Note, StreamEnded, StreamSeen, Transport
from adversary.tap.decode.observation import Kind, Observation
from adversary.tap.decode.packets.pcap import CaptureError
from adversary.tap.decode.read import events, observations
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

quick = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def write(tmp_path: Path, wire: Any) -> Any:
    def write(packets: Any, name: Any = "link.pcap", **options: Any) -> Any:
        path = tmp_path / name
        path.write_bytes(wire.pcap(packets, **options))
        return path

    return write


def test_every_tensor_is_bit_equal_and_says_who_sent_it_when(wire: Any, write: Any) -> None:
    pieces, sent = wire.split_head()
    path = write(wire.conversation(pieces))
    found = list(observations([path]))
    assert wire.seen(found) == sent
    assert all(isinstance(o.kind, Kind) and not o.tensor.flags.writeable for o in found)
    assert [o.time for o in found] == sorted(o.time for o in found)
    assert {o.call for o in found} == {f"{path}#0/1", f"{path}#0/3"}
    assert {o.sender for o in found} == {"10.0.0.1:40000", "10.0.0.2:50051"}
    assert found[0].round is None and found[0].name == ""


@quick
@given(st.data(), st.integers(30, 3000))
def test_any_segmentation_order_and_duplication_gives_the_same_observations(
    wire: Any, write: Any, data: Any, size: Any
) -> None:
    pieces, sent = wire.split_head(2)
    packets = wire.conversation(pieces, segment=size)
    # Within what a network reorders: 32 places.
    jitter = data.draw(st.lists(st.integers(0, 32), min_size=len(packets), max_size=len(packets)))
    order = [k for _, k in sorted(zip((k + j for k, j in enumerate(jitter)), range(len(packets)), strict=True))]
    # The connection's first packet comes first: without any SYN, what is acknowledged is taken to be in order.
    order = [0, *(k for k in order if k)]
    again = data.draw(st.lists(st.integers(0, len(packets) - 1), max_size=10))
    path = write([packets[k] for k in order] + [packets[k] for k in again])
    assert sorted(wire.seen(observations([path]))) == sorted(sent)


@quick
@given(st.data())
def test_a_lost_packet_ends_one_direction_and_other_streams_go_on(wire: Any, write: Any, data: Any) -> None:
    pieces, sent = wire.split_head()
    packets = wire.conversation(pieces, segment=300)
    gone = data.draw(st.sampled_from([k for k, packet in enumerate(packets) if len(packet) > 40]))
    other = wire.conversation(pieces, client=("10.0.0.9", 40000))
    path = write(packets[:gone] + other + packets[gone + 1 :])
    found = list(events([path]))
    lost = [e for e in found if isinstance(e, StreamEnded) and e.broken]
    assert [e.reason for e in lost] == [f"{len(packets[gone]) - 40} bytes are missing from the capture"]
    assert lost[0].client == (packets[gone][15] == 1)
    tensors = [e for e in found if isinstance(e, Observation)]
    first = lost[0].stream
    second = [o for o in tensors if not o.call.startswith(first)]
    assert [row[2:] for row in wire.seen(second)] == [row[2:] for row in sent]
    kept = wire.seen([o for o in tensors if o.call.startswith(first)])
    assert set(kept) <= set(sent)
    # The other direction is whole, as far as its methods are known.
    if not lost[0].client:
        assert [row for row in kept if row[1]] == [row for row in sent if row[1]]


@quick
@given(st.lists(st.tuples(st.integers(0, 1), st.binary(min_size=1, max_size=200)), max_size=12), st.booleans())
def test_random_streams_never_raise(wire: Any, write: Any, pieces: Any, after_a_good_start: Any) -> None:
    if after_a_good_start:
        pieces = wire.split_head(1)[0] + pieces
    list(events([write(wire.conversation(pieces, segment=90))]))


@quick
@given(st.data())
def test_a_damaged_conversation_never_raises(wire: Any, write: Any, data: Any) -> None:
    pieces, _ = wire.split_head(2)
    content = bytearray(wire.pcap(wire.conversation(pieces)))
    for _ in range(data.draw(st.integers(1, 10))):
        content[data.draw(st.integers(24, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = write([])
    path.write_bytes(bytes(content))
    for event in events([path]):
        assert not isinstance(event, Observation) or isinstance(event.tensor, np.ndarray)


def test_a_truncated_capture_yields_what_it_holds_and_says_so(
    wire: Any, write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pieces, sent = wire.split_head()
    path = write(wire.conversation(pieces))
    path.write_bytes(path.read_bytes()[:-500])
    found = wire.seen(observations([path]))
    assert sent[: len(found)] == found and len(found) > 5
    assert "truncated in the middle of a packet" in caplog.text


@pytest.mark.parametrize(("content", "reason"), [(b"", "is empty"), (b"not a capture at all", "is not a capture")])
def test_what_cannot_be_read_is_one_clear_error(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=f"^{path}: {reason}"):
        list(observations([path]))
    with pytest.raises(CaptureError, match="cannot be read"):
        list(observations([tmp_path / "missing.pcap"]))


def test_a_capture_without_packets_is_noted(write: Any) -> None:
    (note,) = events([write([])])
    assert isinstance(note, Note) and note.reason == "holds no packets"


def test_snap_length_ends_a_direction_with_that_reason(wire: Any, write: Any) -> None:
    pieces, _ = wire.split_head()
    found = list(events([write(wire.conversation(pieces), snap=100)]))
    ends = [e.reason for e in found if isinstance(e, StreamEnded) and e.broken]
    assert ends and all("snap length" in reason for reason in ends)


def test_unknown_methods_are_listed_with_their_sizes(wire: Any, write: Any) -> None:
    http2 = wire.Http2()
    pieces = [*http2.opening(), *http2.unary(1, "/some.Thing/Else", b"1234", b"123456")]
    found = [e for e in events([write(wire.conversation(pieces))]) if isinstance(e, MessageSeen)]
    assert [(e.method, e.client, e.size) for e in found] == [
        ("/some.Thing/Else", True, 4),
        ("/some.Thing/Else", False, 6),
    ]


def test_a_message_that_breaks_the_contract_is_told_and_others_go_on(wire: Any, write: Any) -> None:
    good = encode_tensor(np.full((2, 2), np.nan, np.float32))
    bad = pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[1 << 30], data=b"1234")
    messages = [
        pb.PredictRequest(activation=good),
        pb.PredictRequest(activation=bad),
        pb.PredictRequest(activation=good),
    ]
    http2 = wire.Http2()
    data = b"".join(wire.grpc_message(m.SerializeToString()) for m in messages) + wire.grpc_message(b"\xff\xff")
    pieces = [*http2.opening(), http2.request(1, "/wireleak.v1.SplitHead/Predict"), (0, wire.data_frames(1, data))]
    found = list(events([write(wire.conversation(pieces))]))
    assert [o.sequence for o in found if isinstance(o, Observation)] == [0, 2]
    reasons = [e.reason for e in found if isinstance(e, CallEnded)]
    assert len(reasons) == 2 and "activation.shape" in reasons[0] and "PredictRequest" in reasons[1]


def test_several_captures_are_merged_by_time(wire: Any, write: Any) -> None:
    pieces, sent = wire.split_head()
    late = write(wire.conversation(pieces), "late.pcap", start=1_800_000_000)
    early = write(wire.conversation(pieces), "early.pcap")
    found = list(observations([late, early]))
    assert wire.seen(found) == sent + sent
    assert {o.call.split("#")[0] for o in found[: len(sent)]} == {str(early)}


def test_listing_alone_decodes_no_tensor(wire: Any, write: Any) -> None:
    pieces, _ = wire.split_head()
    path = write(wire.conversation(pieces))
    listed = [e for e in events([path], tensors=False) if isinstance(e, MessageSeen)]
    whole = list(events([path]))
    assert listed == [e for e in whole if isinstance(e, MessageSeen)]
    assert not any(isinstance(e, Observation) for e in events([path], tensors=False))


def test_the_client_is_who_sends_the_preface_whatever_the_ports(wire: Any, write: Any) -> None:
    pieces, sent = wire.split_head()
    packets = wire.conversation(pieces, client=("10.0.0.2", 80), server=("10.0.0.1", 60000))[3:]
    (stream,) = (e for e in events([write(packets)]) if isinstance(e, StreamSeen))
    assert (stream.client, stream.server, stream.transport) == ("10.0.0.2:80", "10.0.0.1:60000", Transport.HTTP2)
    assert len(list(observations([write(packets)]))) == len(sent)


def test_opaque_streams_are_counted(wire: Any, write: Any) -> None:
    found = list(events([write(wire.conversation([(0, b"\x00\x01\x02something binary" * 9), (1, b"ok")]))]))
    assert [e.transport for e in found if isinstance(e, StreamSeen)] == [Transport.OTHER]
    assert {(e.client, e.bytes) for e in found if isinstance(e, StreamEnded)} == {(True, 171), (False, 2)}


def test_a_compressed_capture_reads_as_the_recorded_one_also_by_its_old_name(wire: Any, write: Any) -> None:
    path = write(wire.conversation(wire.split_head()[0]))
    recorded = [(one.call, one.kind, one.tensor.tobytes()) for one in observations([path])]
    packed = path.with_name("link.pcap.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    for name in (packed, path):
        read = [(one.call.replace(".gz", ""), one.kind, one.tensor.tobytes()) for one in observations([name])]
        assert read == recorded
    counted: list[int] = []
    list(events([path], progress=counted.append))
    assert sum(counted) == packed.stat().st_size


def test_a_cut_compressed_capture_is_read_up_to_there(wire: Any, write: Any) -> None:
    path = write(wire.conversation(wire.split_head()[0]), "link.pcap.gz")
    whole = gzip.compress(path.read_bytes())
    path.write_bytes(whole[: len(whole) // 2])
    *_, note = [event for event in events([path]) if isinstance(event, Note)]
    assert "ended before the end-of-stream marker" in note.reason
    path.write_bytes(whole[:5])
    with pytest.raises(CaptureError, match="cannot be read: Compressed file ended"):
        list(events([path]))
