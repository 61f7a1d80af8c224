"""Decode SplitHead messages to tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
from google.protobuf.message import DecodeError

from adversary.tap.decode.observation import Kind
from adversary.tap.decode.payload import PayloadError
from wireleak.common.wire import WireError, decode_tensor
from wireleak.common.wire import split_head_pb2 as pb

_SERVICE = "/wireleak.v1.SplitHead/"

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
    """Yield the tensors of one message, read-only, sharing the parsed message's bytes.

    Raises
    ------
    PayloadError
        The bytes are not such a message, or a tensor breaks the contract's bounds. NaN and infinities pass, because an
        eavesdropper records every value.
    """
    message_type, fields = _PAYLOADS[method, client]
    try:
        message = message_type.FromString(data)
        for field, kind in fields.items():
            if message.HasField(field):
                yield kind, decode_tensor(getattr(message, field), field, finite=False)
    except DecodeError as error:
        raise PayloadError(f"is no {message_type.DESCRIPTOR.name}") from error
    except WireError as error:
        raise PayloadError(str(error)) from error
