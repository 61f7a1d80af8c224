"""Decode HTTP/1.1: both directions of a connection to requests and responses, parsed by h11.

Flower's Fleet API uses it from flwr 1.40. h11 acts as one of the two parties, so each direction has its own parser,
which gets a minimal other half of every exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import h11

from adversary.tap.decode.grpc import MAX_CALLS, MAX_MESSAGE, MAX_WAITING, CallBroken, Message
from adversary.tap.decode.http2 import ProtocolError

_MAX_HEAD = 1 << 18


class _Body:
    """A body that is not complete yet."""

    def __init__(self, wanted: bool) -> None:
        self.size = 0
        self.data: bytearray | None = bytearray() if wanted else None

    def add(self, data: bytes | bytearray) -> None:
        self.size += len(data)
        if self.data is None:
            return
        if self.size > MAX_MESSAGE:
            raise ProtocolError(f"a body is over {MAX_MESSAGE} bytes")
        self.data += data


class Http1Connection:
    """Decoder of one connection. Call k is its k-th request and response; the method is the request's path.

    Parameters
    ----------
    wanted : callable
        Returns whether the bodies of a path are needed, or only sizes.
    """

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self._wanted = wanted
        self._requests = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        self._responses = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        self._heads: dict[int, tuple[str, bytes]] = {}  # path and method of requests without their response
        self._asked = self._answered = 0
        self._asking = ""
        self._bodies = {True: _Body(False), False: _Body(False)}
        self._early = 0  # bytes of responses whose requests were not seen yet
        self._silent = False
        self._closed = False
        self._lost = False

    def feed(self, client: bool, time: float, data: memoryview) -> Iterator[Message | CallBroken]:
        """Yield the messages that the bytes complete; raise `ProtocolError` if the direction is lost."""
        parser = self._requests if client else self._responses
        try:
            parser.receive_data(bytes(data))
        except RuntimeError as error:
            raise ProtocolError("HTTP/1.1 goes on after its end") from error
        yield from self._parse(client, time)
        if client:
            yield from self._catch_up(time)
        elif self._expected():
            self._early = 0
        else:
            self._early += len(data)
            if self._early > MAX_WAITING:
                raise ProtocolError("responses without their requests")

    def end(self, client: bool, time: float) -> Iterator[Message | CallBroken]:
        """End one direction; a response without a length ends with it."""
        if client:
            self._silent = True
        elif not self._closed:
            self._closed = True
            self._responses.receive_data(b"")
        yield from self._catch_up(time)

    def _catch_up(self, time: float) -> Iterator[Message | CallBroken]:
        """Parse responses that waited for their requests."""
        try:
            yield from self._parse(False, time)
        except ProtocolError as error:
            self._lost = True
            yield CallBroken(self._answered, "", False, time, str(error))

    def _expected(self) -> bool:
        """Return whether the next response's request is known, or will never be."""
        if self._lost or (self._answered >= self._asked and not self._silent):
            return False
        return self._responses.their_state is h11.SEND_BODY or bool(self._responses.trailing_data[0])

    def _parse(self, client: bool, time: float) -> Iterator[Message]:
        parser = self._requests if client else self._responses
        event: object = None
        try:
            while client or self._expected():
                if not client:
                    self._ask()
                event = parser.next_event()
                if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                    break
                yield from self._event(client, time, event)
        except (h11.ProtocolError, RuntimeError) as error:
            raise ProtocolError(f"HTTP/1.1 is broken: {error}") from error
        if event is h11.PAUSED and parser.trailing_data[0]:
            raise ProtocolError("HTTP/1.1 ends here: the connection closes or switches to another protocol")

    def _event(self, client: bool, time: float, event: object) -> Iterator[Message]:
        if isinstance(event, h11.Request):
            path = event.target.decode("latin-1")
            if len(self._heads) >= MAX_CALLS:
                raise ProtocolError("requests without their responses")
            self._heads[self._asked] = (path, event.method)
            self._bodies[True] = _Body(self._wanted(path))
            self._asking = path
            self._asked += 1
        elif isinstance(event, h11.Response):
            path, _ = self._heads.get(self._answered, ("", b""))
            self._bodies[False] = _Body(self._wanted(path))
        elif isinstance(event, h11.Data):
            self._bodies[client].add(event.data)
        elif isinstance(event, h11.EndOfMessage):
            yield self._done(client, time)

    def _done(self, client: bool, time: float) -> Message:
        body = self._bodies[client]
        if client:
            number = self._asked - 1
            path = self._asking
            self._next_request()
        else:
            number = self._answered
            path, _ = self._heads.pop(number, ("", b""))
            self._answered += 1
            if self._responses.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                self._responses.start_next_cycle()
        return Message(number, path, client, 0, time, body.size, body.data)

    def _next_request(self) -> None:
        """Pass the requests' parser a response, so that it takes the next request."""
        self._requests.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        self._requests.send(h11.EndOfMessage())
        if self._requests.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            self._requests.start_next_cycle()

    def _ask(self) -> None:
        """Pass the responses' parser the request that the next response answers."""
        if self._responses.our_state is h11.IDLE:
            _, method = self._heads.get(self._answered, ("", b"POST"))
            self._responses.send(
                h11.Request(method=method, target="/", headers=[("host", "-"), ("content-length", "0")])
            )
            self._responses.send(h11.EndOfMessage())
