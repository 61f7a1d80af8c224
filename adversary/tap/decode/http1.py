"""Decode HTTP/1.1: both directions of a connection to requests and responses, parsed by h11.

A browser sends gRPC-web this way: a body then holds messages. Flower's Fleet API uses it from flwr 1.40, with one
message a body. h11 acts as one of the two parties, so each direction has its own parser, which gets a minimal other
half of every exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import h11

from adversary.tap.decode.framing import MAX_MESSAGE, BrokenFramingError, Direction, is_grpc_web
from adversary.tap.decode.grpc import MAX_CALLS, MAX_WAITING, CallBroken, Message
from adversary.tap.decode.http2 import PREFACE
from adversary.tap.decode.payload import MAX_UNFINISHED, Budget, ProtocolError
from wireleak.common.words import counted, printable

_MAX_HEAD = 1 << 18
# Most characters of a path, and the work for one of h11's events and for a request or response.
_LONGEST = 1024
EVENT_WORK = 10
HEAD_WORK = 40


_NO_HEAD = ("", b"POST", b"")


class _Body:
    """A body of one message that is not complete yet."""

    def __init__(self, wanted: bool, budget: Budget) -> None:
        self._budget = budget
        self._size = 0
        self._data: bytearray | None = bytearray() if wanted else None

    def add(self, data: bytes | bytearray) -> Iterator[tuple[int, bytes | bytearray | None]]:
        """Keep the next bytes."""
        self._size += len(data)
        if self._data is not None:
            if self._size > MAX_MESSAGE:
                raise ProtocolError(f"a body is over {MAX_MESSAGE} bytes")
            if not self._budget.has_room(len(data)):
                raise ProtocolError(f"more than {MAX_UNFINISHED} bytes of unfinished messages at once")
            self._data += data
            self._budget.held += len(data)
        yield from ()

    def end(self) -> Iterator[tuple[int, bytes | bytearray | None]]:
        """Yield size and bytes of the body."""
        data = self._data
        self.drop()
        yield self._size, data

    def drop(self) -> None:
        """Forget the bytes."""
        self._budget.held -= len(self._data or b"")
        self._data = None


class _WebBody:
    """A body of gRPC-web messages."""

    def __init__(self, wanted: bool, content_type: str, encoding: str, budget: Budget) -> None:
        self._wanted = wanted
        self._direction = Direction(budget)
        self._direction.encoding = encoding
        self._direction.follow(content_type)

    def add(self, data: bytes | bytearray) -> Iterator[tuple[int, bytes | bytearray | None]]:
        """Yield size and bytes of each message that the bytes complete."""
        if not self._direction.over:
            yield from self._direction.feed(memoryview(data), self._wanted)

    def end(self) -> Iterator[tuple[int, bytes | bytearray | None]]:
        """Check that the body does not end inside a message."""
        lacking = 0 if self._direction.over else self._direction.unfinished()
        self.drop()
        if lacking:
            raise BrokenFramingError(f"ends {counted(lacking, 'byte')} before a message's end")
        yield from ()

    def drop(self) -> None:
        """Forget the bytes of an unfinished message."""
        self._direction.stop()


class Http1Connection:
    """Decoder of one connection. Call k is its k-th request and response; the method is the request's path.

    For gRPC-web the method is the path's last two parts, as in native gRPC: a page may put a prefix before them.

    Parameters
    ----------
    wanted : callable
        Returns whether the bodies of a path are needed, or only sizes.
    budget : Budget, optional
        Shared by connections with one common memory bound.
    """

    def __init__(self, wanted: Callable[[str], bool], budget: Budget | None = None) -> None:
        self._wanted = wanted
        self._budget = budget or Budget()
        self._requests = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        self._responses = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        # Path, method and proposed upgrade of requests without their response.
        self._heads: dict[int, tuple[str, bytes, bytes]] = {}
        self._proposed = False
        self.upgrading = ""  # the path of the request that proposed to switch to HTTP/2
        self.switched: dict[bool, bytes] = {}  # the bytes after the switch, once per side
        self._asked = self._answered = 0
        self._asking = ""
        self._bodies: dict[bool, _Body | _WebBody] = {side: _Body(False, self._budget) for side in (True, False)}
        self._sequence = {True: 0, False: 0}
        self._early = 0  # bytes of responses whose requests were not seen yet
        self._silent = False
        self._closed = False
        self._lost = False

    @property
    def asked(self) -> int:
        """The number of requests seen."""
        return self._asked

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
            self._budget.held -= self._early
            self._early = 0
        else:
            self._early += len(data)
            self._budget.held += len(data)
            if self._early > MAX_WAITING or not self._budget.has_room():
                raise ProtocolError("responses without their requests")

    def end(self, client: bool, time: float) -> Iterator[Message | CallBroken]:
        """End one direction; a response without a length ends with it."""
        if client:
            self._silent = True
        elif not self._closed:
            self._closed = True
            self._responses.receive_data(b"")
        yield from self._catch_up(time)
        self._bodies[client].drop()
        if not client:
            self._budget.held -= self._early
            self._early = 0

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

    def _parse(self, client: bool, time: float) -> Iterator[Message | CallBroken]:
        parser = self._requests if client else self._responses
        event: object = None
        try:
            while client or self._expected():
                if not client:
                    self._ask()
                event = parser.next_event()
                self._budget.spend(EVENT_WORK)
                if client and event is h11.PAUSED and self._proposed and self._declined():
                    continue
                if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                    break
                yield from self._event(client, time, event)
        except (h11.ProtocolError, RuntimeError) as error:
            raise ProtocolError(f"HTTP/1.1 is broken: {error}") from error
        if self._has_switched(client, event):
            return
        if event is h11.PAUSED and parser.trailing_data[0]:
            raise ProtocolError("HTTP/1.1 ends here: the connection closes or switches to another protocol")

    def _event(self, client: bool, time: float, event: object) -> Iterator[Message | CallBroken]:
        if isinstance(event, h11.Request | h11.Response):
            self._budget.spend(HEAD_WORK)
        if isinstance(event, h11.Request):
            if len(self._heads) >= MAX_CALLS:
                raise ProtocolError("requests without their responses")
            path = event.target[:_LONGEST].decode("latin-1")
            self._bodies[True], path = self._open(True, path, event.headers)
            named = {name: value.strip().lower() for name, value in event.headers}
            self._heads[self._asked] = (path, event.method, named.get(b"upgrade", b""))
            self._proposed = b"upgrade" in named
            self._asking = path
            self._asked += 1
        elif isinstance(event, h11.Response):
            path, *_ = self._heads.get(self._answered, _NO_HEAD)
            self._bodies[False], _ = self._open(False, path, event.headers)
        elif isinstance(event, h11.Data):
            yield from self._messages(client, time, self._bodies[client].add(event.data))
        elif isinstance(event, h11.EndOfMessage):
            yield from self._messages(client, time, self._bodies[client].end())
            self._done(client)

    def _open(self, client: bool, path: str, headers: Iterable[tuple[bytes, bytes]]) -> tuple[_Body | _WebBody, str]:
        """Return the body that follows these headers, and the method."""
        self._sequence[client] = 0
        named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        if not is_grpc_web(kind := named.get("content-type", "")):
            return _Body(self._wanted(path), self._budget), path
        method = "/" + "/".join(path.partition("?")[0].split("/")[-2:])
        return _WebBody(self._wanted(method), kind, named.get("grpc-encoding", "identity"), self._budget), method

    def _messages(
        self, client: bool, time: float, found: Iterator[tuple[int, bytes | bytearray | None]]
    ) -> Iterator[Message | CallBroken]:
        """Yield the messages of a body; one that is broken ends its call and no other."""
        number = self._asked - 1 if client else self._answered
        path = self._asking if client else self._heads.get(number, _NO_HEAD)[0]
        try:
            for size, data in found:
                yield Message(number, path, client, self._sequence[client], time, size, data)
                self._sequence[client] += 1
        except BrokenFramingError as error:
            yield CallBroken(number, path, client, time, str(error))

    def _done(self, client: bool) -> None:
        """Prepare for the next request or response."""
        if client:
            # With a proposal, the next bytes tell whether the server took it.
            if not self._proposed:
                self._next_request()
            return
        self._heads.pop(self._answered, None)
        self._answered += 1
        if self._responses.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            self._responses.start_next_cycle()

    def _declined(self) -> bool:
        """Return whether the client goes on with HTTP/1.1 after a proposal to switch; then take its next request."""
        following = self._requests.trailing_data[0]
        if not following or PREFACE.startswith(following[: len(PREFACE)]):
            return False
        if not following[:1].isalpha():
            raise ProtocolError("HTTP/1.1 ends here: the connection switches to a protocol that is not decoded")
        self._proposed = False
        self._next_request()
        return True

    def _has_switched(self, client: bool, event: object) -> bool:
        """Keep the bytes after a switch to HTTP/2; return whether this direction waits for one, or made one."""
        path, _, upgrade = self._heads.get(self._answered, _NO_HEAD)
        if client:
            following = self._requests.trailing_data[0]
            if event is h11.PAUSED and self._proposed and following.startswith(PREFACE):
                self.switched[True], self.upgrading = bytes(following), path or self.upgrading
            return event is h11.PAUSED and self._proposed
        if self._lost:
            return True
        if self._responses.their_state is not h11.SWITCHED_PROTOCOL:
            return False
        if upgrade != b"h2c":
            name = printable(upgrade.decode("latin-1"), 40)
            raise ProtocolError(f"HTTP/1.1 ends here: the connection switches to {name}, which is not decoded")
        self.switched[False], self.upgrading = bytes(self._responses.trailing_data[0]), path
        self._heads.pop(self._answered, None)
        self._lost = True  # no response in HTTP/1.1 follows
        return True

    def _next_request(self) -> None:
        """Pass the requests' parser a response, so that it takes the next request."""
        self._requests.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        self._requests.send(h11.EndOfMessage())
        if self._requests.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            self._requests.start_next_cycle()

    def _ask(self) -> None:
        """Pass the responses' parser the request that the next response answers."""
        if self._responses.our_state is h11.IDLE:
            _, method, upgrade = self._heads.get(self._answered, _NO_HEAD)
            headers = [(b"host", b"-"), (b"content-length", b"0")]
            if upgrade:
                headers += [(b"connection", b"upgrade"), (b"upgrade", upgrade)]
            self._responses.send(h11.Request(method=method, target="/", headers=headers))
            self._responses.send(h11.EndOfMessage())
