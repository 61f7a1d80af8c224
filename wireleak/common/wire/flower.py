"""Pack the arrays of Flower messages: one record of bytes, where Flower sends three objects for each array.

Each object of a message is a request of its own at every hop, so a network of 20 arrays costs over 60 requests a hop.
A packed record replaces the record of arrays under the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard, cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from wireleak.common.wire.packing import DATA, LAYOUT, pack, unpack

Handler = Callable[[Message, Context], Message]


def packed(content: RecordDict) -> RecordDict:
    """Return a message's content with every record of arrays packed; the other records are shared."""
    return RecordDict(
        {name: _pack(record) if isinstance(record, ArrayRecord) else record for name, record in content.items()}
    )


def unpacked(content: RecordDict) -> RecordDict | None:
    """Return a message's content with every packed record unpacked; None if no record is packed.

    Raises
    ------
    PackingError
        Bytes and layout do not fit together.
    """
    if not any(_is_packed(record) for record in content.values()):
        return None
    return RecordDict({name: _unpack(record) if _is_packed(record) else record for name, record in content.items()})


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


def _pack(record: ArrayRecord) -> ConfigRecord:
    data, layout = pack({name: array.numpy() for name, array in record.items()})
    return ConfigRecord({DATA: data, LAYOUT: layout})


def _is_packed(record: object) -> TypeGuard[ConfigRecord]:
    return isinstance(record, ConfigRecord) and set(record) == {DATA, LAYOUT}


def _unpack(record: ConfigRecord) -> ArrayRecord:
    data, layout = record[DATA], record[LAYOUT]
    arrays = unpack(cast(bytes, data), cast(str, layout))
    return ArrayRecord({name: Array(values) for name, values in arrays.items()})
