"""A browser's gRPC-web: the tap reads the same messages from it as from native gRPC."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable

import numpy as np
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from hypothesis import given
from hypothesis import strategies as st

from adversary.tap.decode import splithead
from adversary.tap.decode.grpc import CallBroken, Message
from adversary.tap.decode.http1 import Http1Connection
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

PREDICT = "/wireleak.v1.SplitHead/Predict"
ACTIVATION = np.arange(12, dtype=np.float32).reshape(1, 3, 4) / 7
SENT = pb.PredictRequest(activation=encode_tensor(ACTIVATION)).SerializeToString()
ANSWER = pb.PredictResponse(prediction=encode_tensor(np.array([[0.25, 0.75]], np.float32))).SerializeToString()
TRAILERS = b"grpc-status: 0\r\ngrpc-message: \r\n"


def block(data: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(data)) + data


def post(body: bytes, path: str = PREDICT, kind: str = "application/grpc-web+proto", more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def answer(body: bytes, kind: str = "application/grpc-web+proto", more: str = "") -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]) if part)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{more}transfer-encoding: chunked\r\n\r\n"
    return head.encode() + chunks + b"0\r\n\r\n"


def play(pieces: Iterable[tuple[bool, bytes]], size: int = 10_000) -> list[Message | CallBroken]:
    connection = Http1Connection(splithead.decodes)
    found: list[Message | CallBroken] = []
    for client, data in pieces:
        for start in range(0, len(data), size):
            found += connection.feed(client, 0.0, memoryview(data[start : start + size]))
    return found + [event for client in (True, False) for event in connection.end(client, 1.0)]


def bodies(found: Iterable[Message | CallBroken]) -> list[tuple[int, str, bool, int, bytes]]:
    return [
        (one.call, one.method, one.client, one.sequence, bytes(one.data or b""))
        for one in found
        if isinstance(one, Message)
    ]


@pytest.mark.parametrize("size", [1, 9, 10_000])
@pytest.mark.parametrize("text", [False, True])
def test_messages_are_those_of_native_grpc_and_the_trailers_are_none(size: int, text: bool) -> None:
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    up, down = block(SENT), block(ANSWER) + block(TRAILERS, 0x80)
    if text:
        # A server encodes each piece by itself, so padding also stands in the middle.
        up, down = base64.b64encode(up), base64.b64encode(down[:11]) + base64.b64encode(down[11:])
    found = play([(True, post(up, kind=kind)), (False, answer(down, kind))], size)
    assert bodies(found) == [(0, PREDICT, True, 0, SENT), (0, PREDICT, False, 0, ANSWER)]
    ((_, tensor),) = splithead.tensors(PREDICT, True, SENT)
    assert tensor.tobytes() == ACTIVATION.tobytes()


def test_a_path_may_have_a_prefix_and_a_body_several_messages() -> None:
    found = play([(True, post(block(SENT) + block(SENT), path=f"/api{PREDICT}?x=1"))])
    assert bodies(found) == [(0, PREDICT, True, 0, SENT), (0, PREDICT, True, 1, SENT)]


def test_compressed_messages_are_unpacked() -> None:
    packed = zlib.compress(SENT, wbits=31)
    found = play([(True, post(block(packed, 1), more="grpc-encoding: gzip\r\n"))])
    assert bodies(found) == [(0, PREDICT, True, 0, SENT)]


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (block(SENT, 2), "application/grpc-web+proto", "flag is 2"),
        (block(SENT)[:-3], "application/grpc-web+proto", "ends 3 bytes before a message's end"),
        (block(SENT)[:2], "application/grpc-web+proto", "ends 3 bytes before a message's end"),
        (b"\0\xff\xff\xff\xff", "application/grpc-web+proto", "claims 4294967295 bytes"),
        (b"AAA*", "application/grpc-web-text", "no base64"),
        (block(b"no gzip", 1), "application/grpc-web+proto", "compressed"),
    ],
)
def test_broken_bytes_cost_one_message(body: bytes, kind: str, reason: str) -> None:
    found = play([(True, post(body, kind=kind) + post(block(SENT))), (False, answer(b"") * 2)])
    (broken,) = [one for one in found if isinstance(one, CallBroken)]
    assert reason in broken.reason
    assert (broken.call, broken.method, broken.client) == (0, PREDICT, True)
    assert bodies(found) == [(1, PREDICT, True, 0, SENT)]


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=40)), max_size=6), st.booleans())
def test_random_bodies_raise_nothing(parts: list[tuple[bool, bytes]], text: bool) -> None:
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    requests = b"".join(post(body, kind=kind) for _, body in parts)
    responses = b"".join(answer(body, kind) for _, body in parts)
    play([(True, requests), (False, responses), (True, post(block(SENT)))])


def test_the_framing_is_that_of_a_library_that_we_did_not_write() -> None:
    from connectrpc._protocol import ConnectWireError
    from connectrpc._protocol_grpc import GRPCWebEnvelopeWriter
    from connectrpc.compat import google_protobuf_binary_codec
    from connectrpc.request import Headers

    writer = GRPCWebEnvelopeWriter(google_protobuf_binary_codec(), None)
    error = ConnectWireError.from_exception(ConnectError(Code.INVALID_ARGUMENT, "activation.shape: wrong"))
    body = writer.write(pb.PredictRequest.FromString(SENT)) + writer.end(Headers(), error)
    assert bodies(play([(True, post(body))])) == [(0, PREDICT, True, 0, SENT)]
