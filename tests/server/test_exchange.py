"""A reply that Flower's Grid cannot rebuild, or that is too large, costs only its own client."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.run import Run
from flwr.superlink.grid import http_grid

from server.exchange import bound_replies
from server.guard import TRAIN_METRICS, Expected, check, usable

GLOBAL = ArrayRecord({"w": Array(np.zeros((2, 3), np.float32))})
Objects = dict[str, bytes]


class PlayedLink:
    """Answers the Grid as a SuperLink does that holds one reply by each node."""

    def __init__(self) -> None:
        self.replies: list[Message] = []
        self.objects: Objects = {}

    def add(self, spoil: Callable[[Objects, str], None] | None = None, extra: bytes = b"") -> None:
        node = len(self.replies) + 1
        weights = Array(np.full((2, 3), node, np.float32))
        weights.data += extra
        content = RecordDict(
            {
                "arrays": ArrayRecord({"w": weights}),
                "metrics": MetricRecord({"num-examples": 1, "train-loss": float(node)}),
            }
        )
        asked = Message(RecordDict(), node, "train")
        asked.metadata.__dict__["_message_id"] = f"asked-{node}"
        reply = Message(content, reply_to=asked)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        objects = {ident: each.deflate() for ident, each in get_all_nested_objects(reply).items()}
        if spoil is not None:
            spoil(objects, reply.object_id)
        self.replies.append(reply)
        self.objects |= objects

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:  # noqa: N802
        return PullAppMessagesResponse(
            messages_list=[message_to_proto(remove_content_from_message(reply)) for reply in self.replies],
            message_object_trees=[get_object_tree(reply) for reply in self.replies],
        )

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:  # noqa: N802
        content = self.objects[request.object_id]
        return PullObjectResponse(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(self, request: Any) -> None:  # noqa: N802
        pass


def of_kind(objects: Objects, kind: bytes) -> str:
    return next(ident for ident, content in objects.items() if content.startswith(kind + b" "))


def with_body(objects: Objects, kind: bytes, body: bytes) -> None:
    ident = of_kind(objects, kind)
    head = objects[ident].partition(b"\0")[0].rsplit(b" ", 1)[0]
    objects[ident] = head + b" " + str(len(body)).encode() + b"\0" + body


def repeats_a_chunk(objects: Objects, _: str) -> None:
    stated = {"dtype": "float32", "shape": [2, 3], "stype": "numpy.ndarray", "arraychunk_ids": [0] * 100_000}
    with_body(objects, b"Array", json.dumps(stated).encode())


BAD: dict[str, tuple[Callable[[Objects, str], None], str]] = {
    "array's body is a list": (lambda o, _: with_body(o, b"Array", b"[]"), "it cannot be read: "),
    "array's body is no JSON": (lambda o, _: with_body(o, b"Array", b"\xff\xff"), "it cannot be read: "),
    "records' body is a list": (lambda o, _: with_body(o, b"ArrayRecord", b"[1]"), "it cannot be read: "),
    "metrics are no protobuf": (lambda o, _: with_body(o, b"MetricRecord", b"\xff" * 9), "it cannot be read: "),
    "message is no protobuf": (lambda o, _: with_body(o, b"Message", b"\xff" * 9), "it cannot be read: "),
    "message is a record": (
        lambda o, root: o.update({root: b"MetricRecord  0\0"}),
        "it cannot be read: it is no message",
    ),
    "unknown kind": (lambda o, root: o.update({root: b"Gift  0\0"}), "it cannot be read: "),
    "no head": (lambda o, root: o.update({root: b"x"}), "it cannot be read: "),
    "one chunk 100,000 times": (repeats_a_chunk, "it cannot be read: its arrays are larger than"),
}


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> PlayedLink:
    monkeypatch.setattr(http_grid, "pull_objects", pull_objects)
    return PlayedLink()


def pulled(link: PlayedLink) -> tuple[dict[int, Message], dict[int, str]]:
    grid = http_grid.HttpGrid(token="none")
    grid.set_run(Run.create_empty(1))
    grid._client = link  # type: ignore[assignment]
    bound_replies(24)
    replies = {
        int(reply.metadata.reply_to_message_id.removeprefix("asked-")): reply for reply in grid.pull_messages([])
    }
    return usable(replies, partial(check, Expected(TRAIN_METRICS, GLOBAL)))


@pytest.mark.parametrize("kind", BAD)
def test_a_reply_that_cannot_be_rebuilt_is_left_out_and_named(link: PlayedLink, kind: str) -> None:
    spoil, reason = BAD[kind]
    link.add()
    link.add(spoil)
    link.add()
    good, dropped = pulled(link)
    assert list(good) == [1, 3]
    np.testing.assert_array_equal(good[3].content.array_records["arrays"]["w"].numpy(), np.full((2, 3), 3))
    assert dropped[2].startswith(reason) and len(dropped) == 1


def test_a_reply_of_many_megabytes_is_not_pulled_whole(link: PlayedLink) -> None:
    seen: list[int] = []  # sizes of objects; Flower's chunks have 5 MiB
    link.add()
    link.add(extra=np.random.default_rng(0).bytes(30 << 20))
    pull = link.PullObject

    def counted(request: PullObjectRequest) -> PullObjectResponse:
        answer = pull(request)
        seen.append(len(answer.object_content))
        return answer

    link.PullObject = counted  # type: ignore[method-assign]
    good, dropped = pulled(link)
    assert list(good) == [1]
    assert dropped == {2: "it is larger than 16777312 bytes"}
    assert sum(seen) < 30 << 20
