"""Infer the method of a gRPC message by its shape, where the name was sent before the capture began."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from adversary.tap.decode import fields, splithead
from adversary.tap.decode.flower import JOIN

_SPLIT_HEAD, _FLEET = "/wireleak.v1.SplitHead/", "/flwr.proto.Fleet/"
_NUMPY = b"numpy.ndarray"


def method_of(client: bool, data: bytes | bytearray) -> str:
    """Return the method that sends such a message in this direction; "" if its shape is unknown."""
    message = memoryview(data)
    for method, fits in _SHAPES[client]:
        try:
            if fits(message):
                return method
        except Exception:
            continue
    return ""


def _tensors(method: str, client: bool, wanted: dict[int, int]) -> Callable[[memoryview], bool]:
    """Return a check that a message has the wanted fields, with their wire types, and valid tensors."""
    allowed = wanted.items() | {(1, fields.VARINT), (15, fields.BYTES)}
    tensors = sum(wire == fields.BYTES for wire in wanted.values())

    def fits(message: memoryview) -> bool:
        found = fields.present(message).items()
        if not wanted.items() <= found <= allowed:
            return False
        return len(list(splithead.tensors(method, client, bytearray(message)))) == tensors

    return fits


def _push_object(message: memoryview) -> bool:
    (name,), (content,) = list(fields.every(message, 3)), list(fields.every(message, 4))
    return hashlib.sha256(content).hexdigest().encode() == bytes(name)


def _pull_object(message: memoryview) -> bool:
    (content,) = fields.every(message, 3)
    head = bytes(content[:200]).partition(b"\0")[0].split(b" ")
    return set(fields.present(message)) == {1, 2, 3} and len(head) == 3 and head[0].isalpha()


def _announcement(message: memoryview) -> bool:
    """Messages with as many trees of objects, whose ids are SHA-256 sums."""
    trees = list(fields.every(message, 3))
    names = [bytes(next(fields.every(tree, 1))) for tree in trees]
    return len(trees) == len(list(fields.every(message, 2))) > 0 and all(len(name) == 64 for name in names)


def _join_up(message: memoryview) -> bool:
    return any(_parameters(body, 2) for number in (3, 4) for body in fields.every(message, number))


def _join_down(message: memoryview) -> bool:
    return any(_parameters(body, 1) for number in (4, 5) for body in fields.every(message, number))


def _parameters(body: memoryview, number: int) -> bool:
    return any(bytes(kind) == _NUMPY for part in fields.every(body, number) for kind in fields.every(part, 2))


# Fields 2 and 3 of the contract's messages: an activation and a label, or a gradient and a loss, or one tensor alone.
_PAIR, _GRADIENT, _ONE = {2: fields.BYTES, 3: fields.BYTES}, {2: fields.BYTES, 3: fields.FIXED32}, {2: fields.BYTES}
_SHAPES: dict[bool, tuple[tuple[str, Callable[[memoryview], bool]], ...]] = {
    True: (
        (_SPLIT_HEAD + "Train", _tensors(_SPLIT_HEAD + "Train", True, _PAIR)),
        (_SPLIT_HEAD + "Predict", _tensors(_SPLIT_HEAD + "Predict", True, _ONE)),
        (_FLEET + "PushObject", _push_object),
        (_FLEET + "PushMessages", _announcement),
        (JOIN, _join_up),
    ),
    False: (
        (_SPLIT_HEAD + "Train", _tensors(_SPLIT_HEAD + "Train", False, _GRADIENT)),
        (_SPLIT_HEAD + "Predict", _tensors(_SPLIT_HEAD + "Predict", False, _ONE)),
        (_FLEET + "PullObject", _pull_object),
        (_FLEET + "PullMessages", _announcement),
        (JOIN, _join_down),
    ),
}
