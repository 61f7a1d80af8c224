"""Decode gRPC over HTTP/2: both directions of a connection to messages with their method."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from adversary.tap.decode.framing import BrokenFramingError, Direction, plausible
from adversary.tap.decode.http2 import DataPiece, HeaderBlock, Http2Side, Reset
from adversary.tap.decode.payload import Budget
from wireleak.common.words import counted

MAX_CALLS = 1 << 14
# A capture may show a response before its request's headers. Most bytes of responses that wait for headers.
MAX_WAITING = 64 << 20
CALL_WORK = 20
# Calls that one side has reset, whose other direction is still read.
_GIVEN_UP = 16
# Messages of a call by which its method is inferred.
_TRIES = 8


class Message(NamedTuple):
    """One message. `client`: whether the client sent it; `size`: its length on the wire without the prefix, bytes.

    `data` is None if the caller does not want this method's messages, or if the call is not gRPC. `inferred`: the
    method is known only by the shape of the call's messages.
    """

    call: int
    method: str
    client: bool
    sequence: int
    time: float
    size: int
    data: bytes | bytearray | None
    inferred: bool = False


class CallBroken(NamedTuple):
    """One direction of a call cannot be decoded further; other calls of the connection continue."""

    call: int
    method: str
    client: bool
    time: float
    reason: str


Event = Message | CallBroken


class _Call:
    __slots__ = ("by", "method", "request", "response", "tries", "waiting")

    def __init__(self, budget: Budget) -> None:
        self.method: str | None = None
        self.request = Direction(budget)
        self.response = Direction(budget)
        self.waiting: list[Message] = []
        # The side that sent the message from which the method was inferred; None if headers name it.
        self.by: bool | None = None
        self.tries = 0


class GrpcConnection:
    """Decoder of one connection.

    Parameters
    ----------
    wanted : callable
        Returns whether the bytes of a method's messages ("/package.Service/Method") are needed, or only sizes.
    budget : Budget, optional
        Shared by connections with one common memory bound.
    infer : callable, optional
        Returns the method of a message by its shape. Given only where the connection's start may be missing.
    """

    def __init__(
        self,
        wanted: Callable[[str], bool] = lambda method: True,
        budget: Budget | None = None,
        infer: Callable[[bool, bytes | bytearray], str] | None = None,
    ) -> None:
        self._infer = infer
        self._wanted = wanted
        self._budget = budget or Budget()
        self._http2 = {side: Http2Side(side, self._budget, infer is not None) for side in (True, False)}
        self._calls: dict[int, _Call] = {}
        self._waiting = 0
        self._silent = False
        self._given_up: deque[int] = deque()

    def feed(self, client: bool, time: float, data: memoryview) -> Iterator[Event]:
        """Yield the events that the next bytes of one direction complete.

        Raises
        ------
        ProtocolError
            This direction is not HTTP/2, or no longer.
        """
        for event in self._http2[client].feed(data):
            if type(event) is DataPiece:
                call = self._calls.get(event.stream)
                direction = None if call is None or event.end else call.request if client else call.response
                if direction is None or not direction.takes(event.data):
                    yield from self._data(client, time, event)
            elif type(event) is HeaderBlock:
                yield from self._headers(client, time, event)
            elif type(event) is Reset:
                yield from self._give_up(event.stream, client, time)

    def answer(self, method: str) -> None:
        """Expect the answer to a request that came before, by HTTP/1.1, in stream 1 (RFC 7540, 3.2)."""
        call = self._calls[1] = _Call(self._budget)
        call.method, call.request.headed, call.request.plain = method, True, True
        call.request.stop()

    def end(self, client: bool, time: float) -> Iterator[Event]:
        """End one direction; unfinished messages in it are reported as broken."""
        self._silent = self._silent or client
        for number in list(self._calls):
            direction = self._direction(self._calls[number], client)
            lacking = direction.unfinished()
            if lacking and not direction.over and number not in self._given_up:
                yield self._broken(number, client, time, f"ends {counted(lacking, 'byte')} before a message's end")
            yield from self._finish(number, client, time)

    def _headers(self, client: bool, time: float, event: HeaderBlock) -> Iterator[Event]:
        call = yield from self._call(event.stream, time)
        direction = self._direction(call, client)
        headers = dict(event.headers)
        if headers.get(":status", "").startswith("1"):
            return  # the response is still to come
        if client and (call.method is None or call.by is not None) and (":path" in headers or self._infer is None):
            call.method, call.by = headers.get(":path", ""), None
            yield from self._release(call)
        if "grpc-encoding" in headers:
            direction.encoding = headers["grpc-encoding"]
        if "content-type" in headers:
            direction.follow(headers["content-type"])
        elif not direction.headed and self._infer is None:
            # gRPC names its content; an answer to gRPC may be trusted to be gRPC.
            direction.plain = client or call.request.plain or not call.request.headed
        direction.headed = True
        if event.end:
            yield from self._finish(event.stream, client, time)

    def _data(self, client: bool, time: float, event: DataPiece) -> Iterator[Event]:
        call = self._calls.get(event.stream)
        if call is None:
            call = yield from self._call(event.stream, time)
        direction = call.request if client else call.response
        if not direction.over:
            data = event.data
            if self._infer is not None and not direction.headed:
                data = _aligned(direction, event)
            try:
                wanted = call.method is None or call.by is not None or self._wanted(call.method)
                for size, body in direction.feed(data, wanted):
                    if self._infer is not None and body is not None and call.by is not client:
                        self._name(call, client, body)
                    message = Message(
                        *(event.stream, call.method or "", client, direction.sequence, time, size, body),
                        inferred=call.by is not None,
                    )
                    direction.sequence += 1
                    if call.method is None and not self._silent and self._infer is None:
                        self._wait(call, message)
                    else:
                        yield message
            except BrokenFramingError as error:
                direction.stop()
                yield self._broken(event.stream, client, time, str(error))
        if event.end:
            yield from self._finish(event.stream, client, time)

    def _call(self, number: int, time: float) -> Generator[Event, None, _Call]:
        """Find or open a call. This is a generator because making room may end another call."""
        if number not in self._calls:
            if len(self._calls) >= MAX_CALLS:
                yield from self._close(next(iter(self._calls)), time)
            self._budget.spend(CALL_WORK)
            self._calls[number] = _Call(self._budget)
        return self._calls[number]

    def _direction(self, call: _Call, client: bool) -> Direction:
        return call.request if client else call.response

    def _name(self, call: _Call, client: bool, body: bytes | bytearray) -> None:
        """Infer a call's method from a message, if no headers named it. A request tells more than an answer."""
        if call.tries >= _TRIES or (call.method is not None and (call.by is None or not client)):
            return
        call.tries += 1
        if self._infer is not None and (method := self._infer(client, body)):
            call.method, call.by = method, client

    def _wait(self, call: _Call, message: Message) -> None:
        kept = _kept(message)
        if self._waiting + kept > MAX_WAITING or not self._budget.has_room(kept):
            raise BrokenFramingError("its request's headers do not come")
        self._waiting += kept
        self._budget.held += kept
        call.waiting.append(message)

    def _release(self, call: _Call) -> Iterator[Message]:
        method = call.method or ""
        for message in call.waiting:
            self._waiting -= _kept(message)
            self._budget.held -= _kept(message)
            yield message._replace(method=method, data=message.data if self._wanted(method) else None)
        call.waiting = []

    def _finish(self, number: int, client: bool, time: float) -> Iterator[Event]:
        """End one direction of a call, and the call once both directions are over."""
        call = self._calls.get(number)
        if call is None:
            return
        direction = self._direction(call, client)
        if direction.plain and direction.total and not direction.over:
            yield Message(number, call.method or "", client, 0, time, direction.total, None)
        direction.stop()
        if (call.request.over and call.response.over) or (self._silent and call.method is None):
            yield from self._release(call)
        if call.request.over and call.response.over:
            del self._calls[number]

    def _give_up(self, number: int, client: bool, time: float) -> Iterator[Event]:
        """End the direction of the side that resets a call; messages of the other side may still be under way."""
        yield from self._finish(number, client, time)
        if number in self._calls:
            self._given_up.append(number)
        if len(self._given_up) > _GIVEN_UP:
            yield from self._close(self._given_up.popleft(), time)

    def _close(self, number: int, time: float) -> Iterator[Event]:
        for client in (True, False):
            yield from self._finish(number, client, time)

    def _broken(self, number: int, client: bool, time: float, reason: str) -> CallBroken:
        return CallBroken(number, self._calls[number].method or "", client, time, reason)


def _kept(message: Message) -> int:
    """Return the bytes of a message that waits, which may be inflated."""
    return 256 + max(message.size, len(message.data or b""))


def _aligned(direction: Direction, piece: DataPiece) -> memoryview:
    """Return the bytes of a direction without headers from the first message on that begins with a frame."""
    if piece.first:
        direction.start = bytearray()
    if direction.start is None:
        return piece.data[:0]
    direction.start += piece.data
    frame = len(direction.start) + piece.left
    if len(direction.start) < min(frame, 64):
        return piece.data[:0]
    start, direction.start = direction.start, None
    if not plausible(start, frame):
        return piece.data[:0]
    direction.headed = True
    return memoryview(bytes(start))
