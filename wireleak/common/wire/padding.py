"""Padding of messages to few sizes, so that a size reveals a bucket and no longer a shape."""

from __future__ import annotations

from typing import Literal, TypeVar

from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.channel import MAX_MESSAGE_BYTES

# Up to the next multiple of so many bytes, up to the next power of two, or not at all.
Pad = int | Literal["powers"] | None
POWERS: Literal["powers"] = "powers"
LEAST = 2

Padded = TypeVar("Padded", pb.PredictRequest, pb.PredictResponse, pb.TrainRequest, pb.TrainResponse)


def pad_message(message: Padded, pad: Pad) -> Padded:
    """Fill a message up to its bucket's size, in place.

    TLS hides a message's content, but neither its time nor its length. Buckets are of sizes with the field's
    own two bytes, so that a longer message never gets a smaller bucket. Powers of two leave few sizes for messages of
    very different lengths, at the price of at most twice the bytes.

    Parameters
    ----------
    message : PredictRequest, PredictResponse, TrainRequest or TrainResponse
        Without padding yet.
    pad : int, "powers" or None
        Bytes that the message's size becomes a multiple of; "powers": a power of two; None: it stays as it is.

    Returns
    -------
    message
        The same message.

    Raises
    ------
    ValueError
        `pad` is below 1.
    """
    if pad is None:
        return message
    size = message.ByteSize()
    left = bucket(size, pad) - size
    while left > 0:
        content = _content(left)
        message.padding.append(bytes(content))
        left -= _encoded(content)
    return message


def bucket(size: int, pad: int | Literal["powers"]) -> int:
    """Size on the wire of a message of `size` bytes; one too large for its bucket keeps its size.

    Raises
    ------
    ValueError
        `pad` is below 1.
    """
    least = size + LEAST
    if pad == POWERS:
        padded = 1 << (least - 1).bit_length()
    elif pad < 1:
        raise ValueError(f"pad: {pad} is not a size; give 1 byte or more")
    else:
        padded = -(-least // pad) * pad
    return padded if padded <= MAX_MESSAGE_BYTES else size


def _content(left: int) -> int:
    """How many bytes to put into a field that takes up at most `left` bytes, and leaves no single byte over."""
    content = left - LEAST
    while _encoded(content) > left or left - _encoded(content) == 1:
        content -= 1
    return content


def _encoded(content: int) -> int:
    """Bytes of a field that holds `content` bytes: its tag, their number as a varint, themselves."""
    return 1 + max(1, -(-content.bit_length() // 7)) + content
