import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Metadata, MetricRecord, RecordDict
from flwr.app.message.message import make_message
from flwr.common.serde import message_to_proto
from flwr.proto import fleet_pb2, message_pb2
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from hypothesis import given
from hypothesis import strategies as st

from adversary.tap.decode import fleet
from adversary.tap.decode.fleet import FleetDecoder, call_name
from adversary.tap.decode.observation import Kind
from adversary.tap.decode.payload import PayloadError
from adversary.tap.decode.read import observations
from wireleak.common.wire.flower import packed

ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "scalar": np.array(7, dtype=np.int64),
    "empty": np.zeros((0, 3), np.float16),
    "twin": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "half": np.array([np.nan, np.inf, 1], np.float16),
}


class Link:
    """A Fleet API call as the decoder sees it; by gRPC's names or by HTTP's."""

    def __init__(self, decoder: Any, http: Any = False) -> None:
        self._decoder, self._http = decoder, http

    def __call__(self, name: Any, client: Any, message: Any, call: Any = "c", time: Any = 1.0) -> Any:
        words = "".join("-" + letter.lower() if letter.isupper() else letter for letter in name).strip("-")
        method = f"/v1/fleet/{words}" if self._http else f"/flwr.proto.Fleet/{name}"
        assert self._decoder.decodes(method)
        return list(self._decoder.feed(method, client, message.SerializeToString(), call, time))


def instruction(number: Any = 1, arrays: Any = ARRAYS, node: Any = 5, form: Any = None) -> Any:
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(value) for name, value in arrays.items()}),
            "config": ConfigRecord({"lr": 0.1, "server-round": number, "text": "x"}),
        }
    )
    return sent(form(content) if form else content, source=1, destination=node, reply_to="")


def reply(to: Any, arrays: Any = ARRAYS, form: Any = None) -> Any:
    records: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {
        "metrics": MetricRecord({"loss": 0.5, "num-examples": 3})
    }
    if arrays:
        records["arrays"] = ArrayRecord({name: Array(value) for name, value in arrays.items()})
    content = form(RecordDict(records)) if form else RecordDict(records)
    return sent(content, source=to.metadata.dst_node_id, destination=1, reply_to=to.metadata.message_id)


def sent(content: Any, source: Any, destination: Any, reply_to: Any) -> Any:
    metadata = Metadata(77, "", source, destination, reply_to, "", 1.0, 60.0, "train")
    message = make_message(metadata, content)
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


def announce(message: Any, kind: Any) -> Any:
    return kind(messages_list=[message_to_proto(message)], message_object_trees=[get_object_tree(message)])


def contents(message: Any) -> Any:
    return {name: each.deflate() for name, each in get_all_nested_objects(message).items()}


def pull(link: Any, message: Any, only: Any = None, time: Any = 2.0) -> Any:
    found = link("PullMessages", False, announce(message, fleet_pb2.PullMessagesResponse), "pull")
    for name, content in contents(message).items():
        if only is None or name in only:
            response = message_pb2.PullObjectResponse(object_found=True, object_available=True, object_content=content)
            found += link("PullObject", False, response, "other", time)
    return found


def push(link: Any, message: Any, only: Any = None, time: Any = 3.0) -> Any:
    found = link("PushMessages", True, announce(message, fleet_pb2.PushMessagesRequest), "push", time)
    for name, content in contents(message).items():
        if only is None or name in only:
            request = message_pb2.PushObjectRequest(object_id=name, object_content=content)
            found += link("PushObject", True, request, "other", time)
    return found


def same(found: Any, arrays: Any) -> None:
    assert [o.name for o in found] == list(arrays)
    assert [o.sequence for o in found] == list(range(len(arrays)))
    for o in found:
        assert o.tensor.dtype == arrays[o.name].dtype and o.tensor.shape == arrays[o.name].shape
        assert o.tensor.tobytes() == arrays[o.name].tobytes()
        assert not o.tensor.flags.writeable


@pytest.mark.parametrize("http", [False, True])
def test_instruction_and_reply(http: bool) -> None:
    link = Link(FleetDecoder(), http)
    order = instruction(4)
    models = pull(link, order)
    same(models, ARRAYS)
    assert {(o.kind, o.sender, o.call, o.time, o.round) for o in models} == {(Kind.GLOBAL_MODEL, "1", "pull", 2.0, 4)}
    updated = {name: value + 1 for name, value in ARRAYS.items() if value.ndim}
    updates = push(link, reply(order, updated))
    same(updates, updated)
    assert {(o.kind, o.sender, o.call, o.time, o.round) for o in updates} == {(Kind.MODEL_UPDATE, "5", "push", 3.0, 4)}


def test_packed_messages_give_the_same_observations() -> None:
    def observed(form: Any) -> Any:
        link = Link(FleetDecoder())
        order = instruction(4, form=form)
        return pull(link, order), push(link, reply(order, form=form))

    plain, together = observed(None), observed(packed)
    for one, other in zip(plain, together, strict=True):
        same(other, ARRAYS)
        rest = ("kind", "name", "sender", "call", "sequence", "time", "round")
        assert [[getattr(o, key) for key in rest] for o in one] == [[getattr(o, key) for key in rest] for o in other]
        assert [o.tensor.tobytes() for o in one] == [o.tensor.tobytes() for o in other]


@pytest.mark.parametrize("layout", ['[["a", "w", "<f4", [9]]]', "[", '[["a", "w", "|O", [1]]]'])
def test_hostile_packed_arrays_are_refused(layout: str) -> None:
    link = Link(FleetDecoder())

    def damaged(content: Any) -> Any:
        return RecordDict({"arrays": ConfigRecord({"packed": b"1234", "layout": layout})})

    with pytest.raises(PayloadError, match="PullObject"):
        pull(link, instruction(form=damaged))


def test_objects_that_the_other_side_holds_are_not_sent_again() -> None:
    link = Link(FleetDecoder())
    order = instruction(1)
    pull(link, order)
    answer = reply(order, ARRAYS | {"scalar": np.array(8)})
    new = set(contents(answer)) - set(contents(order))
    assert len(new) < len(contents(answer)) - 4
    same(push(link, answer, only=new), ARRAYS | {"scalar": np.array(8)})
    # A message all of whose objects but its own are known; and another node's pull of the same model.
    same(pull(link, instruction(1, node=6)), ARRAYS)


def test_arrays_in_several_chunks_some_of_them_equal() -> None:
    arrays = {"zeros": np.zeros(3 << 20, np.float32), "large": np.arange(3 << 20, dtype=np.float32)}
    found = pull(Link(FleetDecoder()), instruction(1, arrays))
    same(found, arrays)


def test_metrics_alone_yield_no_tensor_and_a_repeated_push_none_twice() -> None:
    link = Link(FleetDecoder())
    order = instruction()
    pull(link, order)
    assert push(link, reply(order, None)) == []
    answer = reply(order)
    assert len(push(link, answer)) == len(ARRAYS)
    assert push(link, answer) == []


def test_missing_objects_are_told() -> None:
    decoder = FleetDecoder()
    order = instruction()
    assert pull(Link(decoder), order, only=list(contents(order))[1:]) == []
    (unfinished,) = decoder.finish()
    assert (unfinished.call, unfinished.client) == ("pull", False)
    assert unfinished.reason.startswith("1 object of a Flower message missing")


def test_a_reply_whose_instruction_was_not_captured_has_no_round() -> None:
    assert {o.round for o in push(Link(FleetDecoder()), reply(instruction()))} == {None}


def test_the_store_is_bounded_but_pending_messages_keep_their_objects() -> None:
    decoder = FleetDecoder(max_store=1000)
    same(pull(Link(decoder), instruction()), ARRAYS)
    assert decoder._stored <= 1000


def test_incomplete_messages_hold_a_bounded_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MAX_PINNED", 30_000)
    decoder = FleetDecoder(max_store=1000)
    link = Link(decoder)
    for number in range(10):
        order = instruction(number, {"w": np.full(1000, number, np.float64)})
        assert pull(link, order, only=list(contents(order))[1:]) == []
        assert decoder._pinned <= 30_000
    same(pull(link, instruction(77)), ARRAYS)
    assert len(list(decoder.finish())) == 10


def body(kind: Any, children: Any, content: Any) -> Any:
    return f"{kind} {','.join(children)} {len(content)}".encode() + b"\0" + content


@pytest.mark.parametrize(
    "described",
    [
        {"dtype": "float32", "shape": [1], "stype": "pickle", "arraychunk_ids": [0]},
        {"dtype": "float32", "shape": [1], "stype": "numpy.ndarray", "arraychunk_ids": [9]},
        {"dtype": "float32", "shape": [1], "stype": "numpy.ndarray", "arraychunk_ids": [0] * 1000},
        {"dtype": "float32", "shape": [1], "stype": "numpy.ndarray", "arraychunk_ids": []},
        {"dtype": "float32"},
        [],
    ],
)
def test_hostile_arrays_are_refused(described: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    monkeypatch.setattr(fleet, "MAX_ARRAY", 10_000)
    objects, parent = [], None
    for kind, content in [
        ("ArrayChunk", b"x" * 50),
        ("Array", json.dumps(described).encode()),
        ("ArrayRecord", None),
        ("RecordDict", b"{}"),
        ("Message", b""),
    ]:
        content = json.dumps({"w": parent}).encode() if content is None else content
        objects.append(body(kind, [parent] if parent else [], content))
        parent = hashlib.sha256(objects[-1]).hexdigest()
    tree = None
    for each in objects:
        name = hashlib.sha256(each).hexdigest()
        tree = message_pb2.ObjectTree(object_id=name, children=[tree] if tree else [])
    assert tree is not None
    link = Link(FleetDecoder())
    request = fleet_pb2.PushMessagesRequest(messages_list=[message_pb2.Message()], message_object_trees=[tree])
    assert link("PushMessages", True, request) == []
    for each in objects[:-1]:
        assert link("PushObject", True, message_pb2.PushObjectRequest(object_content=each)) == []
    with pytest.raises(PayloadError, match="PushObject"):
        link("PushObject", True, message_pb2.PushObjectRequest(object_content=objects[-1]))


@pytest.mark.parametrize("data", [b"\1\0", b"\1\0\xff\xff", b"\x09\0\1\0{"])
def test_broken_npy_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        fleet.npy(memoryview(b"\x93NUMPY" + data))


def test_pickled_arrays_are_refused() -> None:
    import io

    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        fleet.npy(memoryview(file.getvalue()))


CALLS = ["PushMessages", "PullMessages", "PushObject", "PullObject"]


@given(st.sampled_from(CALLS), st.booleans(), st.binary(max_size=200))
def test_random_bytes_raise_only_payload_errors(name: Any, client: Any, data: Any) -> None:
    decoder = FleetDecoder()
    try:
        list(decoder.feed(f"/flwr.proto.Fleet/{name}", client, data, "c", 0.0))
    except PayloadError as error:
        assert name in str(error)


@given(st.binary(max_size=300))
def test_random_npy_raises_only_value_errors(data: Any) -> None:
    header = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': ("
    for prefix in (b"", header[:8], header):
        with pytest.raises((ValueError, IndexError)):
            fleet.npy(memoryview(prefix + data))


def test_method_names() -> None:
    assert call_name("/flwr.proto.Fleet/PushObject") == call_name("/v1/fleet/push-object") == "PushObject"
    assert call_name("/wireleak.v1.SplitHead/Predict") == ""


def test_two_links_complete_one_another_in_two_captures(tmp_path: Path, wire: Any) -> None:
    """The update's arrays were sent on another link than the message that refers to them."""
    order = instruction()
    answer = reply(order)
    parts = contents(answer)

    def conversation(calls: Any, port: Any) -> Any:
        http2 = wire.Http2()
        pieces = http2.opening()
        for number, (name, message) in enumerate(calls):
            pieces += http2.unary(2 * number + 1, f"/flwr.proto.Fleet/{name}", message.SerializeToString(), b"")
        return wire.conversation(pieces, client=("10.0.0.1", port))

    objects = [("PushObject", message_pb2.PushObjectRequest(object_content=content)) for content in parts.values()]
    first, second = tmp_path / "one.pcap", tmp_path / "two.pcap"
    second.write_bytes(wire.pcap(conversation(objects, 41000)))
    message = announce(answer, fleet_pb2.PushMessagesRequest)
    first.write_bytes(wire.pcap(conversation([("PushMessages", message)], 42000), start=1_700_000_100))
    same(list(observations([first, second])), ARRAYS)
