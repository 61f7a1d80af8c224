"""Conversations of every protocol that the reader decodes: what is mutated."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from flwr.proto import fleet_pb2, grpcadapter_pb2, message_pb2, recorddict_pb2, transport_pb2

from tests.adversary.tap import conftest as wire
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

# A conversation: (side, bytes), side 0 is the client.
Pieces = list[tuple[int, bytes]]
_FLEET = "/flwr.proto.Fleet/"


def seeds() -> dict[str, Pieces]:
    """Return a small conversation of each kind, by name."""
    update = list(_update())
    return {
        "split head": wire.split_head(2)[0],
        "late": wire.split_head(4)[0][6:],
        "fleet": _calls([(_FLEET + name, message, b"") for name, message in update]),
        "fleet over http/1.1": _http1(update),
        "grpc-web": _grpc_web("application/grpc-web+proto", lambda data: data),
        "grpc-web-text": _grpc_web("application/grpc-web-text", base64.b64encode),
        "join": _calls([("/flwr.proto.FlowerService/Join", *_join())]),
        "adapter": _calls([("/flwr.proto.GrpcAdapter/SendReceive", _wrapped(), b"")]),
        "inline": _calls([(_FLEET + "PushMessages", _inline(), b"")]),
        "compressed": _compressed(),
        "h2c": _upgrade(),
        "tls": [(0, bytes([22, 3, 1, 0, 5, 1]) + bytes(4)), (1, bytes([23, 3, 3, 0, 9]) + bytes(9))] * 3,
    }


def _calls(calls: list[tuple[str, bytes, bytes]]) -> Pieces:
    http2 = wire.Http2()
    pieces = http2.opening()
    for number, (method, request, response) in enumerate(calls):
        pieces += http2.unary(2 * number + 1, method, request, response)
    return list(pieces)


def _update() -> Iterator[tuple[str, bytes]]:
    """Yield the requests that push one model update: its announcement, and its objects."""
    file = io.BytesIO()
    np.save(file, np.arange(6, dtype=np.float32).reshape(2, 3))
    described = {"dtype": "float32", "shape": [2, 3], "stype": "numpy.ndarray", "arraychunk_ids": [0]}
    objects: list[bytes] = []
    parent = ""
    tree = None
    for kind in ("ArrayChunk", "Array", "ArrayRecord", "RecordDict", "Message"):
        body = {
            "ArrayChunk": file.getvalue(),
            "Array": json.dumps(described).encode(),
            "ArrayRecord": json.dumps({"w": parent}).encode(),
        }.get(kind, b"{}")
        objects.append(f"{kind} {parent} {len(body)}".encode() + b"\0" + body)
        parent = hashlib.sha256(objects[-1]).hexdigest()
        tree = message_pb2.ObjectTree(object_id=parent, children=[tree] if tree else [])
    message = message_pb2.Message(metadata=message_pb2.Metadata(message_id=parent, src_node_id=7))
    assert tree is not None
    announced = fleet_pb2.PushMessagesRequest(messages_list=[message], message_object_trees=[tree])
    yield "PushMessages", announced.SerializeToString()
    for content in objects:
        yield "PushObject", message_pb2.PushObjectRequest(object_content=content).SerializeToString()


def _http1(update: list[tuple[str, bytes]]) -> Pieces:
    pieces: Pieces = []
    for name, message in update:
        path = "/v1/fleet/" + {"PushMessages": "push-messages", "PushObject": "push-object"}[name]
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(message)}\r\n\r\n"
        pieces += [(0, head.encode() + message), (1, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")]
    chunked = (
        b"POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    return [*pieces, (0, chunked), (1, b"HTTP/1.1 200 OK\r\n\r\nuntil the end")]


def _grpc_web(kind: str, encode: Any) -> Pieces:
    request = pb.PredictRequest(activation=encode_tensor(np.arange(6, dtype=np.float32).reshape(2, 3)))
    response = pb.PredictResponse(prediction=encode_tensor(np.ones((2, 2), np.float32)))
    trailers = b"grpc-status: 0\r\n"
    body = encode(wire.grpc_message(request.SerializeToString()))
    answer = encode(wire.grpc_message(response.SerializeToString()) + wire.grpc_message(trailers, 0x80))
    head = f"POST /wireleak.v1.SplitHead/Predict HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n"
    return [
        (0, f"{head}content-length: {len(body)}\r\n\r\n".encode() + body),
        (1, f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(answer)}\r\n\r\n".encode() + answer),
    ]


def _parameters() -> transport_pb2.Parameters:
    file = io.BytesIO()
    np.save(file, np.arange(4, dtype=np.float32))
    return transport_pb2.Parameters(tensors=[file.getvalue()] * 2, tensor_type="numpy.ndarray")


def _join() -> tuple[bytes, bytes]:
    config = {"server_round": transport_pb2.Scalar(sint64=3)}
    order = transport_pb2.ServerMessage.FitIns(parameters=_parameters(), config=config)
    answer = transport_pb2.ClientMessage.FitRes(parameters=_parameters(), num_examples=5)
    down, up = transport_pb2.ServerMessage(fit_ins=order), transport_pb2.ClientMessage(fit_res=answer)
    return up.SerializeToString(), down.SerializeToString()


def _inline() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(4, dtype=np.float32))
    array = recorddict_pb2.Array(dtype="float32", shape=[4], stype="numpy.ndarray", data=file.getvalue())
    record = recorddict_pb2.ArrayRecord(items=[recorddict_pb2.ArrayRecord.Item(key="w", value=array)])
    number = recorddict_pb2.ConfigRecordValue(sint64=2)
    config = recorddict_pb2.ConfigRecord(items=[recorddict_pb2.ConfigRecord.Item(key="server-round", value=number)])
    content = recorddict_pb2.RecordDict(
        items=[
            recorddict_pb2.RecordDict.Item(key="a", array_record=record),
            recorddict_pb2.RecordDict.Item(key="c", config_record=config),
        ]
    )
    metadata = message_pb2.Metadata(message_id="m", src_node_id=9, reply_to_message_id="r", group_id="1")
    message = message_pb2.Message(metadata=metadata, content=content)
    return fleet_pb2.PushMessagesRequest(messages_list=[message]).SerializeToString()


def _wrapped() -> bytes:
    return grpcadapter_pb2.MessageContainer(
        grpc_message_name="PushMessagesRequest", grpc_message_content=_inline()
    ).SerializeToString()


def _compressed() -> Pieces:
    http2 = wire.Http2()
    data = wire.grpc_message(gzip.compress(b"hello" * 50), 1)
    opening = [*http2.opening(), http2.request(1, "/a/B", **{"grpc-encoding": "gzip"})]
    return [*opening, (0, wire.data_frames(1, data, end=True, pad=3))]


def _upgrade() -> Pieces:
    http2 = wire.Http2()
    request = (
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: \r\n\r\n"
    )
    accepted = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    plain = http2.headers(1, 1, [(":status", "200"), ("content-type", "text/html")])
    calls = http2.unary(3, "/a/B", b"question", b"answer")
    return [(0, request), (1, accepted), *http2.opening(), plain, (1, wire.data_frames(1, b"<p>", end=True)), *calls]
