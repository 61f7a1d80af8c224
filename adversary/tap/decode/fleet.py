r"""Decode Flower's Fleet API to model updates and global models.

A Flower message crosses the wire as its metadata with a tree of object ids (PushMessages, PullMessages), and then
object by object (PushObject, PullObject). An object is ``<Type> <child ids> <length>\0<body>``, and its id is
the SHA-256 of that. An object that the other side already holds is not sent again, so one store serves all links and
both directions.
A study may pack the arrays of a message into one record (`wireleak.common.wire.packing`); they are unpacked here.
Source: flwr 1.39.0, `flwr/supercore/inflatable`, `flwr/app/message`; gRPC there, HTTP/1.1 from flwr 1.40.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from adversary.tap.decode.fields import every, numbers
from adversary.tap.decode.observation import Kind, Observation
from adversary.tap.decode.payload import Budget, PayloadError, TooMuchWorkError
from wireleak.common.wire.packing import DATA, LAYOUT, unpack
from wireleak.common.words import counted

# flwr takes long to import, and most captures hold none of its messages.
if TYPE_CHECKING:
    from flwr.proto import message_pb2, recorddict_pb2

MAX_STORE = 96 << 20
MAX_PENDING = 4096
MAX_ARRAY = 128 << 20
# Most bytes of objects, each counted once, that incomplete messages keep in memory.
MAX_PINNED = 160 << 20
# Messages and records that are parsed whole: parsed, a hostile one takes many times its bytes.
MAX_PARSED = 4 << 20
MAX_TREE = 1 << 20
MAX_REMEMBERED = 1 << 16

# Field numbers of PushMessages and PullMessages, of PushObject, and of PullObject.
_MESSAGES, TREES = 2, 3
_PUSHED = 4
_AVAILABLE, _PULLED = 2, 3
_GRPC, _HTTP = "/flwr.proto.Fleet/", "/v1/fleet/"
_ROUND = "server-round"


class _Object(NamedTuple):
    type: str
    children: list[str]
    body: memoryview


@dataclass
class _Pending:
    """A Flower message that still lacks objects."""

    kind: Kind
    metadata: message_pb2.Metadata
    root: str
    missing: set[str]
    call: str
    time: float
    objects: dict[str, bytes] = field(default_factory=dict)


class Unfinished(NamedTuple):
    """A Flower message that is incomplete in the captures; `client`: a node pushed it."""

    call: str
    client: bool
    time: float
    reason: str


def call_name(method: str) -> str:
    """Return the Fleet API's name of a gRPC method or an HTTP path ("PushObject"), "" if it is neither."""
    if method.startswith(_GRPC):
        return method[len(_GRPC) :]
    if method.startswith(_HTTP):
        return "".join(word.capitalize() for word in method[len(_HTTP) :].split("-"))
    return ""


class FleetDecoder:
    """Decoder of the Fleet API's calls of all links to tensors, independent of the transport.

    Parameters
    ----------
    max_store : int
        Most bytes of objects remembered for later messages; the least recently used are dropped first.
    budget : Budget, optional
        The work that the captures may cause.
    """

    def __init__(self, max_store: int = MAX_STORE, budget: Budget | None = None) -> None:
        self._max_store = max_store
        self._budget = budget or Budget()
        self._store: OrderedDict[str, bytes] = OrderedDict()
        self._stored = 0
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self._pins: Counter[str] = Counter()
        self._pinned = 0
        self._dropped: list[Unfinished] = []
        self._waiting: dict[str, set[str]] = {}  # object id -> ids of messages that wait for it
        self._rounds: OrderedDict[str, int] = OrderedDict()
        self._done: OrderedDict[str, None] = OrderedDict()
        self._handlers = {
            ("PushMessages", True): self._push_messages,
            ("PullMessages", False): self._pull_messages,
            ("PushObject", True): self._push_object,
            ("PullObject", False): self._pull_object,
        }

    def decodes(self, method: str) -> bool:
        """Return whether the method's messages are needed to decode tensors."""
        return (name := call_name(method), True) in self._handlers or (name, False) in self._handlers

    def feed(
        self, method: str, client: bool, data: bytes | bytearray | memoryview, call: str, time: float
    ) -> Iterator[Observation]:
        """Yield the tensors of every Flower message that this request (`client`) or response completes.

        Raises
        ------
        PayloadError
            The bytes are not a message of this method.
        """
        handler = self._handlers.get((call_name(method), client))
        if handler is None:
            return
        try:
            yield from handler(memoryview(data), call, time)
        except TooMuchWorkError:
            raise
        except (DecodeError, ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
            raise PayloadError(f"is no {call_name(method)} of Flower's Fleet API: {_short(error)}") from error

    def finish(self) -> Iterator[Unfinished]:
        """Yield each Flower message that never became complete."""
        yield from self._dropped
        yield from map(_unfinished, self._pending.values())

    def _push_messages(self, data: memoryview, call: str, time: float) -> Iterator[Observation]:
        yield from self._announce(Kind.MODEL_UPDATE, data, call, time)

    def _pull_messages(self, data: memoryview, call: str, time: float) -> Iterator[Observation]:
        yield from self._announce(Kind.GLOBAL_MODEL, data, call, time)

    def _push_object(self, data: memoryview, call: str, time: float) -> Iterator[Observation]:
        for content in every(data, _PUSHED):
            yield from self._arrive(bytes(content), time)

    def _pull_object(self, data: memoryview, call: str, time: float) -> Iterator[Observation]:
        if any(numbers(data, _AVAILABLE)):
            for content in every(data, _PULLED):
                yield from self._arrive(bytes(content), time)

    def _announce(self, kind: Kind, data: memoryview, call: str, time: float) -> Iterator[Observation]:
        """Take the messages and the trees of their objects; both are lists of a request and of a response alike."""
        from flwr.proto import message_pb2

        for message, branches in zip(every(data, _MESSAGES), every(data, TREES), strict=False):
            tree = message_pb2.ObjectTree.FromString(_short_enough(branches, MAX_TREE))
            metadata = message_pb2.Metadata.FromString(_short_enough(next(every(message, 1), message[:0])))
            root = tree.object_id
            if root in self._pending or root in self._done:
                continue
            names = list(_ids(tree))
            self._budget.spend(2 * len(names))
            pending = _Pending(kind, metadata, root, set(names), call, time)
            for identity in list(pending.missing):
                content = self._recall(identity)
                if content is not None:
                    self._pin(pending, identity, content)
                else:
                    self._waiting.setdefault(identity, set()).add(root)
            self._pending[root] = pending
            if not pending.missing:
                yield from self._complete(pending, time)
            elif len(self._pending) > MAX_PENDING:
                self._drop(next(iter(self._pending)))

    def _arrive(self, content: bytes, time: float) -> Iterator[Observation]:
        identity = hashlib.sha256(content).hexdigest()
        self._remember(identity, content)
        for root in self._waiting.pop(identity, ()):
            pending = self._pending[root]
            self._pin(pending, identity, content)
            if not pending.missing:
                yield from self._complete(pending, time)
        while self._pinned > MAX_PINNED:
            self._drop(next(iter(self._pending)))

    def _pin(self, pending: _Pending, identity: str, content: bytes) -> None:
        pending.objects[identity] = content
        pending.missing.discard(identity)
        self._pins[identity] += 1
        if self._pins[identity] == 1:
            self._pinned += len(content)

    def _unpin(self, pending: _Pending) -> None:
        for identity, content in pending.objects.items():
            self._pins[identity] -= 1
            if not self._pins[identity]:
                del self._pins[identity]
                self._pinned -= len(content)

    def _remember(self, identity: str, content: bytes) -> None:
        if identity in self._store:
            self._store.move_to_end(identity)
            return
        self._store[identity] = content
        self._stored += len(content)
        while self._stored > self._max_store:
            _, old = self._store.popitem(last=False)
            self._stored -= len(old)

    def _recall(self, identity: str) -> bytes | None:
        content = self._store.get(identity)
        if content is not None:
            self._store.move_to_end(identity)
        return content

    def _drop(self, root: str) -> None:
        pending = self._pending.pop(root)
        self._unpin(pending)
        pending.objects.clear()
        self._dropped.append(_unfinished(pending))
        for identity in pending.missing:
            waiting = self._waiting.get(identity, set())
            waiting.discard(root)
            if not waiting:
                self._waiting.pop(identity, None)

    def _complete(self, pending: _Pending, time: float) -> Iterator[Observation]:
        del self._pending[pending.root]
        self._unpin(pending)
        remember(self._done, pending.root, None)
        objects = {identity: _parse(content) for identity, content in pending.objects.items()}
        records = [objects[record] for child in objects[pending.root].children for record in objects[child].children]
        metadata = pending.metadata
        number = self._round(pending, records)
        sequence = 0
        for record in records:
            for name, tensor in self._arrays(record, objects):
                self._budget.expand(tensor.nbytes)
                sender = str(metadata.src_node_id)
                yield Observation(pending.kind, tensor, name, sender, pending.call, sequence, time, number)
                sequence += 1

    def _round(self, pending: _Pending, records: list[_Object]) -> int | None:
        """Return the round that an instruction states; for a reply, the round of its instruction."""
        if pending.kind is Kind.MODEL_UPDATE:
            return self._rounds.get(pending.metadata.reply_to_message_id)
        for record in records:
            if record.type == "ConfigRecord":
                # A packed record's keys name the records that they come from.
                for value in config_values(record.body, lambda key: key.rpartition("/")[2] == _ROUND).values():
                    if value.WhichOneof("value") in ("sint64", "uint64"):
                        number = int(value.sint64 or value.uint64)
                        remember(self._rounds, pending.root, number)
                        return number
        return None

    def _arrays(self, record: _Object, objects: dict[str, _Object]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Yield the named arrays of a record, in Flower's form or packed; none for a record of other things."""
        if record.type == "ArrayRecord":
            for name, identity in json.loads(_short_enough(record.body)).items():
                yield name, self._array(objects[identity], objects)
        elif record.type == "ConfigRecord":
            values = config_values(record.body, lambda key: key in (DATA, LAYOUT))
            if len(values) == 2:
                if len(values[DATA].bytes) > MAX_ARRAY:
                    raise ValueError(f"packed arrays are over {MAX_ARRAY} bytes")
                for (_, name), tensor in unpack(values[DATA].bytes, values[LAYOUT].string).items():
                    yield name, tensor

    def _array(self, array: _Object, objects: dict[str, _Object]) -> npt.NDArray[Any]:
        """Join an array's chunks; a single chunk is not copied."""
        if array.type != "Array":
            raise ValueError(f"an object is a {array.type[:40]} where an Array is expected")
        described = json.loads(_short_enough(array.body))
        if described["stype"] != "numpy.ndarray":
            raise ValueError(f"an array is serialised as {described['stype']!r:.60}, not as numpy.ndarray")
        chunks = [objects[array.children[int(index)]].body for index in described["arraychunk_ids"]]
        size = sum(map(len, chunks))
        if size > MAX_ARRAY:
            raise ValueError(f"an array is over {MAX_ARRAY} bytes")
        self._budget.expand(size)
        return npy(chunks[0] if len(chunks) == 1 else memoryview(b"".join(chunks)))


def config_values(record: memoryview, wanted: Callable[[str], bool]) -> dict[str, recorddict_pb2.ConfigRecordValue]:
    """Return a ConfigRecord's values by key, those of wanted keys only."""
    from flwr.proto import recorddict_pb2

    found = {}
    for item in every(record, 1):
        key = bytes(next(every(item, 1), item[:0])[:1024]).decode()
        if wanted(key):
            found[key] = recorddict_pb2.ConfigRecordValue.FromString(bytes(next(every(item, 2), item[:0])))
    return found


def _short_enough(data: memoryview, most: int = MAX_PARSED) -> bytes:
    """Return bytes that are to be parsed whole."""
    if len(data) > most:
        raise ValueError(f"{len(data)} bytes are over {most}")
    return bytes(data)


def _unfinished(pending: _Pending) -> Unfinished:
    reason = f"{counted(len(pending.missing), 'object')} of a Flower message missing from the captures"
    return Unfinished(pending.call, pending.kind is Kind.MODEL_UPDATE, pending.time, reason)


def remember(memory: OrderedDict[str, Any], key: str, value: object) -> None:
    """Keep the value; the oldest of too many are forgotten."""
    memory[key] = value
    if len(memory) > MAX_REMEMBERED:
        memory.popitem(last=False)


def _ids(tree: message_pb2.ObjectTree) -> Iterator[str]:
    """Yield every object id in a tree."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        yield node.object_id
        nodes.extend(node.children)


def _parse(content: bytes) -> _Object:
    """Split an object's content into type, children and body, without copying the body."""
    divider = content.find(b"\0")
    kind, children, length = content[: max(divider, 0)].decode().split(" ")
    body = memoryview(content)[divider + 1 :]
    if len(body) != int(length):
        raise ValueError("an object's length differs from the length in its head")
    return _Object(kind, children.split(",") if children else [], body)


def npy(data: memoryview) -> npt.NDArray[Any]:
    """Return a read-only view of the array in the bytes of an .npy file."""
    if bytes(data[:6]) != b"\x93NUMPY" or data[6] not in (1, 2, 3):
        raise ValueError("an array is not in numpy's format")
    width = 2 if data[6] == 1 else 4
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    if start > 65536 or start > len(data):
        raise ValueError("an array's header is too long")
    reader = io.BytesIO(data[8:start])
    read = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(reader)
    except Exception as error:
        # numpy evaluates the header as a Python literal, and hostile headers fail in undocumented ways.
        raise ValueError("an array's header is broken") from error
    if dtype.hasobject:
        raise ValueError("an array holds Python objects")
    if len(data) - start != int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise ValueError(f"an array's bytes do not fit its shape {shape}")
    values = np.frombuffer(data[start:], dtype) if len(data) > start else np.empty(0, dtype)
    values = values.reshape(shape[::-1]).T if fortran else values.reshape(shape)
    values.flags.writeable = False
    return values


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:120]
