"""Decode all forms in which Flower's messages cross a wire to model updates and global models.

From flwr 1.20 on, messages are trees of objects (`fleet`). Older versions send the arrays in the messages: the Fleet
API in a `RecordSet` (`PushMessages`, and `PushTaskRes` before), and `start_server` in the stream `FlowerService/Join`.
The service `GrpcAdapter` wraps any of the Fleet API's messages in a container with the message's name.
Source: flwr 1.13.0 and 1.20.0, `flwr/proto`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from adversary.tap.decode import fields
from adversary.tap.decode.fleet import TREES, FleetDecoder, Unfinished, call_name, config_values, npy, remember
from adversary.tap.decode.observation import Kind, Observation
from adversary.tap.decode.payload import Budget, PayloadError

JOIN = "/flwr.proto.FlowerService/Join"
ADAPTER = "/flwr.proto.GrpcAdapter/SendReceive"
_FLEET = "/flwr.proto.Fleet/"

# The field of a request or response that lists messages with their content, per call and sender (true: the node).
_INLINE = {
    ("PushMessages", True): 2,
    ("PullMessages", False): 2,
    ("PushTaskRes", True): 2,
    ("PullTaskIns", False): 2,
}
# Names under which strategies state the round.
_ROUNDS = ("server-round", "server_round", "current_round", "round", "rnd")
FIELD_WORK = 6
_ARRAYS_ITEM, _CONFIG_ITEM = 2, 4
_Values = list[tuple[str, memoryview]]


class FlowerDecoder:
    """Decoder of Flower's messages on all links; one store of objects serves them.

    Parameters
    ----------
    budget : Budget, optional
        The work that the captures may cause.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget or Budget()
        self._fleet = FleetDecoder(budget=self._budget)
        self._rounds: OrderedDict[str, int] = OrderedDict()

    def decodes(self, method: str) -> bool:
        """Return whether the method's messages are needed to decode tensors."""
        return method in (JOIN, ADAPTER) or self._fleet.decodes(method) or _inline(method)

    def feed(
        self, method: str, client: bool, data: bytes | bytearray | memoryview, call: str, sender: str, time: float
    ) -> Iterator[Observation]:
        """Yield the tensors of every Flower message that this request (`client`) or response completes.

        Raises
        ------
        PayloadError
            The bytes are not a message of this method.
        """
        # Each field is passed over a few times.
        self._budget.spend(FIELD_WORK * fields.count(memoryview(data)))
        try:
            if method == ADAPTER:
                yield from self._unwrap(data, call, sender, time)
                return
            if method == JOIN:
                yield from self._join(client, data, call, sender, time)
                return
            number = _INLINE.get((call_name(method), client))
            # With a tree of objects, the objects are sent apart.
            if number is not None and not any(True for _ in fields.every(memoryview(data), TREES)):
                for message in fields.every(memoryview(data), number):
                    yield from self._message(client, message, call, time)
        except (DecodeError, ValueError) as error:
            raise PayloadError(f"is no {method.rpartition('/')[2]} of Flower: {error}") from error
        yield from self._fleet.feed(method, client, data, call, time)

    def finish(self) -> Iterator[Unfinished]:
        """Yield each Flower message that never became complete."""
        yield from self._fleet.finish()

    def _unwrap(
        self, data: bytes | bytearray | memoryview, call: str, sender: str, time: float
    ) -> Iterator[Observation]:
        """Decode the message in a container; its name says which call it belongs to, and who sent it."""
        names = [bytes(name).decode() for name in fields.every(memoryview(data), 2)]
        contents = list(fields.every(memoryview(data), 3))
        if not names or not contents:
            return
        name, client = names[-1], names[-1].endswith("Request")
        method = _FLEET + name.removesuffix("Request").removesuffix("Response")
        if self._fleet.decodes(method) or _inline(method):
            yield from self.feed(method, client, contents[-1], call, sender, time)

    def _message(self, client: bool, message: memoryview, call: str, time: float) -> Iterator[Observation]:
        """Decode one message with its content: a `Message`, or a task of an older version."""
        from flwr.proto import message_pb2

        old = list(fields.every(message, 4))
        parts = {number: part for number in (1, 2, 3) for part in fields.every(message, number)}
        contents, metadata = list(fields.every(message, 2)), message_pb2.Metadata()
        if old:
            # A task: {task_id, group_id, run_id, task}; the task has its records in field 9.
            task = old[-1]
            contents = list(fields.every(task, 9))
            metadata.message_id, metadata.group_id = _text(parts.get(1)), _text(parts.get(2))
            metadata.reply_to_message_id = next((_text(each) for each in fields.every(task, 7)), "")
            metadata.src_node_id = next(
                (number for each in fields.every(task, 1) for number in fields.numbers(each, 1)), 0
            )
        elif contents and 1 in parts:
            metadata.MergeFromString(bytes(parts[1]))
        for content in contents:
            arrays, number = _records(content)
            if number is None and metadata.group_id.isdecimal() and len(metadata.group_id) < 10:
                number = int(metadata.group_id)
            if client:
                number = self._rounds.get(metadata.reply_to_message_id, number)
            elif number is not None:
                remember(self._rounds, metadata.message_id, number)
            kind = Kind.MODEL_UPDATE if client else Kind.GLOBAL_MODEL
            for sequence, (name, values) in enumerate(arrays):
                sender = str(metadata.src_node_id)
                yield Observation(kind, npy(values), name, sender, call, sequence, time, number)

    def _join(
        self, client: bool, data: bytes | bytearray | memoryview, call: str, sender: str, time: float
    ) -> Iterator[Observation]:
        """Decode a message of `start_server` or `start_client`."""
        # Each message is one of: field 3 get_parameters, 4 fit, 5 evaluate. Parameters are their field 2 or 1.
        for number, kind in ((3, "get"), (4, "fit"), (5, "evaluate")):
            for body in fields.every(memoryview(data), number):
                at = self._join_round(client, kind, body, call)
                if kind == "evaluate" and client:
                    continue  # a loss
                parameters = list(fields.every(body, 2 if client else 1)) if client or kind != "get" else []
                for values in parameters:
                    role = Kind.MODEL_UPDATE if client else Kind.GLOBAL_MODEL
                    for sequence, tensor in enumerate(fields.every(values, 1)):
                        yield Observation(role, npy(tensor), str(sequence), sender, call, sequence, time, at)

    def _join_round(self, client: bool, kind: str, body: memoryview, call: str) -> int | None:
        """Return the round that the instruction states, or else the number of the call's training instructions."""
        at = self._rounds.get(call, 0)
        if kind == "get":
            return None
        if not client and kind == "fit":
            stated = {
                _text(next(fields.every(entry, 1), None)): value
                for entry in fields.every(body, 2)
                for value in fields.every(entry, 2)
            }
            known = [stated[name] for name in _ROUNDS if name in stated]
            from flwr.proto import transport_pb2

            number = transport_pb2.Scalar.FromString(bytes(known[0])).sint64 if known else 0
            at = number or at + 1
            remember(self._rounds, call, at)
        return at or None


def _inline(method: str) -> bool:
    name = call_name(method)
    return (name, True) in _INLINE or (name, False) in _INLINE


def _text(part: memoryview | None) -> str:
    return "" if part is None else bytes(part[:1024]).decode(errors="replace")


def _records(content: memoryview) -> tuple[_Values, int | None]:
    """Return the named arrays of a RecordDict or RecordSet, as .npy files, and the round if it states one."""
    arrays: _Values = []
    at: int | None = None
    for item in fields.every(content, 1):
        for record in fields.every(item, _ARRAYS_ITEM):
            names = list(fields.every(record, 1))
            values = list(fields.every(record, 2))
            if values:  # RecordSet: names and values are two lists
                pairs = [(_text(name), value) for name, value in zip(names, values, strict=True)]
            else:  # RecordDict: a list of pairs
                pairs = [
                    (_text(next(fields.every(pair, 1), None)), next(fields.every(pair, 2), pair[:0])) for pair in names
                ]
            arrays += [(name, next(fields.every(value, 4), value[:0])) for name, value in pairs]
        for record in fields.every(item, _CONFIG_ITEM):
            at = _round(record) if at is None else at
    for entry in fields.every(content, 3):
        for record in fields.every(entry, 2):
            at = _round(record) if at is None else at
    return arrays, at


def _round(record: memoryview) -> int | None:
    values = config_values(record, lambda key: key in _ROUNDS)
    return next((int(value.sint64 or value.uint64) for value in values.values()), None)
