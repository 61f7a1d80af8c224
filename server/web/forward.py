"""Forward a browser's gRPC-web calls to the head as native gRPC; messages pass as bytes, unread and unchanged.

The protocol is connectrpc's, the Connect project's own server library. It is checked by that project's conformance
suite. Every message keeps its bytes, so the tap in front of the gateway sees what the head computes with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint

from wireleak.common.wire import Security
from wireleak.common.wire.channel import MAX_MESSAGE_BYTES, channel_options
from wireleak.common.wire.split_head_pb2 import DESCRIPTOR

SERVICE = DESCRIPTOR.services_by_name["SplitHead"].full_name
TIMEOUT_SECONDS = 30.0

_Context = RequestContext[Any, Any]


class RawCodec:
    """Passes the bytes of protobuf messages through."""

    def name(self) -> str:
        """Return the name in the content type."""
        return "proto"

    def encode(self, message: bytes) -> bytes:
        """Return the message."""
        return message

    def decode(self, data: bytes | bytearray, message_class: type[bytes]) -> bytes:
        """Return the message, in memory of its own."""
        return message_class(data)


class Forward(ConnectASGIApplication["Forward"]):
    """The methods that a browser may call: `Describe` and `Predict`.

    Parameters
    ----------
    head : str
        The head's host:port.
    security : Security
        How the link to the head is protected.
    largest : int
        Bytes of the largest message.
    """

    def __init__(self, head: str, security: Security, largest: int = MAX_MESSAGE_BYTES) -> None:
        self._head = head
        self._security = security
        self._channel: grpc.aio.Channel | None = None
        super().__init__(
            service=self,
            endpoints=lambda own: {
                f"/{SERVICE}/Describe": Endpoint.unary(_method("Describe", StreamType.UNARY), own.describe),
                f"/{SERVICE}/Predict": Endpoint.bidi_stream(_method("Predict", StreamType.BIDI_STREAM), own.predict),
            },
            read_max_bytes=largest,
            compressions=(),
            codecs=[RawCodec()],
        )

    @property
    def path(self) -> str:
        """The path under which every method lies."""
        return f"/{SERVICE}"

    async def describe(self, request: bytes, context: _Context) -> bytes:
        """Forward `Describe`."""
        method = self._connected().unary_unary(f"/{SERVICE}/Describe", _as_they_are, _as_they_are)
        try:
            answer: bytes = await method(request, timeout=_left(context))
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error) from error
        return answer

    async def predict(self, requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
        """Forward `Predict`, message by message: the head answers each one before it takes the next."""
        method: Any = self._connected().stream_stream(f"/{SERVICE}/Predict", _as_they_are, _as_they_are)
        call = method(timeout=_left(context))
        try:
            async for request in requests:
                await call.write(request)
                answer = await call.read()
                if not isinstance(answer, bytes):
                    break
                yield answer
            await call.done_writing()
            # A call that the head refused says so when it is read.
            await call.read()
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error) from error
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the link to the head."""
        if self._channel is not None:
            await self._channel.close(None)

    def _connected(self) -> grpc.aio.Channel:
        # A channel belongs to the running event loop, so it is opened by the first call.
        if self._channel is None:
            if self._security.encrypted:
                credentials = self._security.channel_credentials()
                self._channel = grpc.aio.secure_channel(self._head, credentials, options=channel_options())
            else:
                self._channel = grpc.aio.insecure_channel(self._head, options=channel_options())
        return self._channel

    def _refusal(self, error: grpc.aio.AioRpcError) -> ConnectError:
        """Return the head's own error; one line of ours where the head is away."""
        code = Code(error.code().name.lower().replace("cancelled", "canceled"))
        if code is Code.UNAVAILABLE:
            return ConnectError(code, f"the head at {self._head} does not answer; start it, then send again")
        return ConnectError(code, error.details() or "the head gave no reason")


def _as_they_are(message: bytes) -> bytes:
    return message


def _method(name: str, kind: StreamType) -> MethodInfo[bytes, bytes]:
    return MethodInfo(
        name=name,
        service_name=SERVICE,
        input=bytes,
        output=bytes,
        idempotency_level=IdempotencyLevel.NO_SIDE_EFFECTS,
        stream_type=kind,
    )


def _left(context: _Context) -> float:
    """Return the seconds that the call may still take."""
    milliseconds = context.timeout_ms
    return TIMEOUT_SECONDS if milliseconds is None else min(TIMEOUT_SECONDS, milliseconds / 1000)
