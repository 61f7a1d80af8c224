"""Take long fields out of a protobuf message without copying them.

Protobuf's own parser copies a message's bytes, and Python's access to a field copies them again. For tensors of a
megabyte that is most of the cost of decoding. What is left after the long fields were taken out is for the parser.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress

VARINT, _FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTH = {_FIXED64: 8, FIXED32: 4}
_LONGEST_VARINT = 10


class UnusualError(ValueError):
    """The message is not written as a serializer writes it; protobuf's parser must decide."""


def take_out(message: memoryview, wanted: Collection[int]) -> tuple[bytes, dict[int, memoryview]]:
    """Return a message without some of its length-delimited fields, and these fields' bytes by number.

    Parameters
    ----------
    message : memoryview
        The serialized message.
    wanted : collection of int
        Numbers of fields that a serializer writes at most once.

    Raises
    ------
    UnusualError
        The message is cut off, a wanted field occurs twice, or a field has an unknown wire type.
    """
    rest, taken, before = bytearray(), {}, 0
    for number, wire, start, end in _fields(message):
        if wire != BYTES or number not in wanted:
            rest += message[before:end]
        elif number in taken:
            raise UnusualError(f"field {number} occurs twice")
        else:
            taken[number] = message[start:end]
        before = end
    return bytes(rest), taken


def every(message: memoryview, number: int) -> Iterator[memoryview]:
    """Yield the bytes of each length-delimited field of this number; the message may be huge.

    Raises
    ------
    UnusualError
        The message is cut off, or a field has an unknown wire type.
    """
    for found, wire, start, end in _fields(message):
        if found == number and wire == BYTES:
            yield message[start:end]


def count(message: memoryview) -> int:
    """Return the number of fields up to the end, or up to the first that is broken."""
    number = 0
    with suppress(UnusualError):
        for _ in _fields(message):
            number += 1
    return number


def present(message: memoryview) -> dict[int, int]:
    """Return the wire type of each field that a message has, by its number.

    Raises
    ------
    UnusualError
        The message is cut off, or a field has an unknown wire type.
    """
    return {found: wire for found, wire, *_ in _fields(message)}


def numbers(message: memoryview, number: int) -> Iterator[int]:
    """Yield each varint field of this number.

    Raises
    ------
    UnusualError
        The message is cut off, or a field has an unknown wire type.
    """
    for found, wire, start, _ in _fields(message):
        if found == number and wire == VARINT:
            yield _varint(message, start)[0]


def begins(start: memoryview, size: int) -> bool:
    """Return whether a message of `size` bytes may start so: one of its first fields fills at least half of it.

    Raises
    ------
    UnusualError
        No message starts so.
    """
    position = 0
    for _ in range(4):
        tag, position = _varint(start, position)
        if not 0 < tag >> 3 < 32:
            return False
        if tag & 7 == VARINT:
            _, position = _varint(start, position)
        elif tag & 7 == BYTES:
            length, position = _varint(start, position)
            position += length
            if position <= size <= 2 * length + 8:
                return True
        else:
            position += _WIDTH.get(tag & 7, size)
        if position > size:
            return False
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, and start and end of the value of each field."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        wire = tag & 7
        start = position
        if wire == VARINT:
            _, position = _varint(message, position)
        elif wire == BYTES:
            size, start = _varint(message, position)
            position = start + size
        elif wire in _WIDTH:
            position += _WIDTH[wire]
        else:
            raise UnusualError(f"wire type {wire}")
        if position > end:
            raise UnusualError("cut off")
        yield tag >> 3, wire, start, position


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(message[position : position + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, position + count + 1
    raise UnusualError("no end of a number")
