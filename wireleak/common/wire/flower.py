"""Pack Flower messages with arrays into one record, where Flower sends three objects for each array.

Each object of a message is a request of its own at every hop, so a network of 20 arrays costs over 60 requests a hop.
The packed record has the arrays as bytes with their layout, and the items of all other records as
"<kind>/<record>/<key>".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from wireleak.common.wire.packing import DATA, LAYOUT, PackingError, pack, unpack

Handler = Callable[[Message, Context], Message]
_PACKED = "packed"
_RECORDS = "records"
# Each record is looked for among all items, so a long list of them would take hours.
_MOST_RECORDS = 64
_KINDS: dict[str, type[MetricRecord | ConfigRecord]] = {"metrics": MetricRecord, "config": ConfigRecord}


def packed(content: RecordDict) -> RecordDict:
    """Return a message's content as one record; content without arrays stays as it is."""
    if not content.array_records:
        return content
    arrays = {
        (record, name): array.numpy()
        for record, values in content.array_records.items()
        for name, array in values.items()
    }
    data, layout = pack(arrays)
    places = {record: f"{_kind(values)}/{record}" for record, values in content.items()}
    merged: dict[str, Any] = {DATA: data, LAYOUT: layout, _RECORDS: list(places.values())}
    for record, values in content.items():
        if not isinstance(values, ArrayRecord):
            merged |= {f"{places[record]}/{key}": value for key, value in values.items()}
    return RecordDict({_PACKED: ConfigRecord(merged)})


def unpacked(content: RecordDict) -> RecordDict | None:
    """Return the records that a message's content was packed from; None if it is not packed.

    Raises
    ------
    PackingError
        The packed record is damaged.
    """
    merged = content.get(_PACKED)
    if not isinstance(merged, ConfigRecord) or not {DATA, LAYOUT, _RECORDS} <= set(merged):
        return None
    arrays = unpack(cast(bytes, merged[DATA]), cast(str, merged[LAYOUT]))
    records: dict[str, Any] = {}
    try:
        places = cast(list[str], merged[_RECORDS])
        if len(places) > _MOST_RECORDS:
            raise PackingError(f"{len(places)} records where at most {_MOST_RECORDS} are expected")
        for place in places:
            kind, _, record = place.partition("/")
            if record in records:
                raise PackingError("two records have one name")
            if kind == "arrays":
                own = {name: Array(values) for (owner, name), values in arrays.items() if owner == record}
                records[record] = ArrayRecord(own)
            else:
                prefix = f"{place}/"
                items = {key.removeprefix(prefix): merged[key] for key in merged if key.startswith(prefix)}
                records[record] = _KINDS[kind](cast(Any, items))
        return RecordDict(records)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise PackingError("a packed record names records that it does not hold") from error


def round_of(message: Message) -> int:
    """Return the round that an instruction states."""
    return int(cast(int, message.content.config_records["config"]["server-round"]))


def as_received(handler: Handler) -> Handler:
    """Wrap a ClientApp's handler, which sees arrays: the reply is packed exactly if the instruction was."""

    def answer(message: Message, context: Context) -> Message:
        content = unpacked(message.content)
        if content is None:
            return handler(message, context)
        message.content = content
        reply = handler(message, context)
        if reply.has_content():
            reply.content = packed(reply.content)
        return reply

    return answer


def _kind(record: object) -> str:
    if isinstance(record, ArrayRecord):
        return "arrays"
    return next(kind for kind, type_ in _KINDS.items() if isinstance(record, type_))
