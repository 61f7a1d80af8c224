"""Decode SplitHead messages to tensors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

import numpy.typing as npt
from google.protobuf.message import DecodeError

from adversary.tap.decode.fields import UnusualError, take_out
from adversary.tap.decode.observation import Kind
from adversary.tap.decode.payload import PayloadError
from wireleak.common.wire import WireError, decode_tensor
from wireleak.common.wire import split_head_pb2 as pb

_SERVICE = "/wireleak.v1.SplitHead/"
# From this size on, copies of a message cost more than a look at its fields.
_LONG = 1 << 14

# Per method and sender (true: the client): the message type, and the role of each of its tensors.
_PAYLOADS: dict[tuple[str, bool], tuple[Any, dict[str, Kind]]] = {
    (_SERVICE + "Predict", True): (pb.PredictRequest, {"activation": Kind.ACTIVATION}),
    (_SERVICE + "Predict", False): (pb.PredictResponse, {"prediction": Kind.PREDICTION}),
    (_SERVICE + "Train", True): (pb.TrainRequest, {"activation": Kind.ACTIVATION, "label": Kind.LABEL}),
    (_SERVICE + "Train", False): (pb.TrainResponse, {"activation_gradient": Kind.ACTIVATION_GRADIENT}),
}


def decodes(method: str) -> bool:
    """Return whether the method's messages carry tensors."""
    return (method, True) in _PAYLOADS


def tensors(method: str, client: bool, data: bytes | bytearray) -> Iterator[tuple[Kind, npt.NDArray[Any]]]:
    """Yield the tensors of one message, read-only, sharing the message's bytes.

    Raises
    ------
    PayloadError
        The bytes are not such a message, or a tensor breaks the contract's bounds. NaN and infinities pass, because an
        eavesdropper records every value.
    """
    message_type, fields = _PAYLOADS[method, client]
    try:
        for field, tensor, content in _parts(message_type, fields, data):
            yield fields[field], decode_tensor(tensor, field, content=content, finite=False)
    except DecodeError as error:
        raise PayloadError(f"is no {message_type.DESCRIPTOR.name}") from error
    except WireError as error:
        raise PayloadError(str(error)) from error


def _parts(
    message_type: Any, fields: Collection[str], data: bytes | bytearray
) -> list[tuple[str, pb.Tensor, memoryview | None]]:
    """Return name and message of each tensor; its bytes are apart where the message is long."""
    if len(data) >= _LONG:
        with suppress(UnusualError):
            return _long_parts(message_type, fields, memoryview(data).toreadonly())
    message = message_type.FromString(data)
    return [(field, getattr(message, field), None) for field in fields if message.HasField(field)]


def _long_parts(
    message_type: Any, fields: Collection[str], data: memoryview
) -> list[tuple[str, pb.Tensor, memoryview | None]]:
    numbers = {message_type.DESCRIPTOR.fields_by_name[field].number: field for field in fields}
    rest, tensors = take_out(data, numbers)
    parts: list[tuple[str, pb.Tensor, memoryview | None]] = []
    for number, field in numbers.items():
        if number in tensors:
            header, content = take_out(tensors[number], [pb.Tensor.DATA_FIELD_NUMBER])
            values = content.get(pb.Tensor.DATA_FIELD_NUMBER, data[:0])
            parts.append((field, pb.Tensor.FromString(header), values))
    # Sequence and padding must be a message too.
    message_type.FromString(rest)
    return parts
