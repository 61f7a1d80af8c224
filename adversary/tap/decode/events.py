"""Events of decoding captures, other than tensors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Transport(StrEnum):
    """The protocol of a TCP stream."""

    HTTP2 = "plaintext HTTP/2"
    HTTP1 = "plaintext HTTP/1.1"
    TLS = "TLS"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class StreamSeen:
    """A TCP stream's transport is recognised.

    `stream` is "<capture>#<number>", as tshark numbers tcp.stream. `time` is that of the stream's first packet.
    `late`: the connection's start is missing from the capture.
    """

    stream: str
    client: str
    server: str
    transport: Transport
    time: float
    late: bool = False


@dataclass(frozen=True, slots=True)
class MessageSeen:
    """One message of a call, decoded or not.

    `client`: the side that opened the stream sent it. `inferred`: the method is known only by the messages' shape,
    because its name was sent before the capture began.
    """

    call: str
    method: str
    client: bool
    sequence: int
    time: float
    size: int
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class CallEnded:
    """One direction of a call cannot be decoded further."""

    call: str
    method: str
    client: bool
    time: float
    reason: str


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """One direction of a TCP stream is over; `bytes` is the number of bytes read from it."""

    stream: str
    client: bool
    time: float
    reason: str
    broken: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class PacketsSkipped:
    """Packets of a capture that hold no TCP segment which can be read; `protocol` names what they hold."""

    capture: str
    protocol: str
    packets: int


@dataclass(frozen=True, slots=True)
class Note:
    """A fault of a whole capture file."""

    capture: str
    reason: str
