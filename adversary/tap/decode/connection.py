"""Recognise the protocol of one TCP stream, and decode it if it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple, Protocol

from adversary.tap.decode import http2
from adversary.tap.decode.events import Transport
from adversary.tap.decode.grpc import CallBroken, GrpcConnection, Message
from adversary.tap.decode.http1 import Http1Connection
from adversary.tap.decode.late import Infer, LateStart, Seeker, Start
from adversary.tap.decode.payload import Budget, TooMuchWorkError, reason_of
from adversary.tap.decode.tls import TlsSide

_START = len(http2.PREFACE)
_HTTP1_METHODS = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ")


class Recognised(NamedTuple):
    """The stream's transport is recognised; `client` is the TCP side that sends requests.

    `late`: the connection's start is missing, so what was sent then is not known.
    """

    transport: Transport
    client: int
    time: float
    late: bool = False


class Lost(NamedTuple):
    """One direction's bytes cannot be decoded further."""

    side: int
    reason: str


Event = Recognised | Lost | Message | CallBroken


class Application(Protocol):
    """A decoder of a protocol on TCP."""

    def feed(self, client: bool, time: float, data: memoryview) -> Iterator[Message | CallBroken]:
        """Yield the events that the bytes complete; raise `ProtocolError` if the direction is lost."""
        ...

    def end(self, client: bool, time: float) -> Iterator[Message | CallBroken]:
        """End one direction."""
        ...


class _Opaque:
    """Bytes of a protocol that is not decoded."""

    def feed(self, client: bool, time: float, data: memoryview) -> Iterator[Message | CallBroken]:
        yield from ()

    def end(self, client: bool, time: float) -> Iterator[Message | CallBroken]:
        yield from ()


class _Tls(_Opaque):
    """Checks the records; their sizes are read by `adversary.tap.decode.traffic`."""

    def __init__(self) -> None:
        self._sides = {True: TlsSide(), False: TlsSide()}

    def feed(self, client: bool, time: float, data: memoryview) -> Iterator[Message | CallBroken]:
        for _ in self._sides[client].feed(time, data):
            pass
        yield from ()


def _unknown(client: bool, data: bytes | bytearray) -> str:
    return ""


class Connection:
    """Decoder of one TCP stream.

    Parameters
    ----------
    wanted : callable
        Returns whether the bytes of a method's messages are needed.
    budget : Budget, optional
        Shared by connections with one common memory bound.
    infer : callable, optional
        Returns the method of a message by its shape. It is asked where the connection's start is missing.
    """

    def __init__(self, wanted: Callable[[str], bool], budget: Budget | None = None, infer: Infer = _unknown) -> None:
        self._wanted = wanted
        self._budget = budget or Budget()
        self._infer = infer
        self._application: Application | None = None
        # What follows an upgrade to HTTP/2, once a side has switched to it.
        self._upgraded: GrpcConnection | None = None
        self._switched = [False, False]
        # Bytes before the transport is recognised: under 24 per direction, or those of a late start.
        self._pieces: list[tuple[int, float, bytes]] = []
        self._starts = (bytearray(), bytearray())
        self._late: LateStart | None = None
        self._seekers: list[Seeker | None] = [None, None]
        self._over = [False, False]
        self._waits = False  # one side is over, and its end waits until the transport is known
        self.client = 0

    def feed(self, side: int, time: float, data: memoryview, late: bool = False) -> Iterator[Event]:
        """Yield the events that the next bytes of one direction complete.

        `late`: the capture may lack the beginning of this direction.
        """
        if self._over[side]:
            return
        if self._application is not None:
            yield from self._decode(self._application, side, time, data)
            return
        self._pieces.append((side, time, bytes(data)))
        if self._late is not None:
            yield from self._feed_late(side, bytes(data), time)
            return
        self._starts[side].extend(data)
        recognised = recognise(bytes(self._starts[side][:_START]))
        if recognised is None:
            return
        transport, asks = recognised
        if transport is Transport.OTHER and late:
            self._late = LateStart(self._infer, self._budget)
            for each, _, piece in self._pieces:
                yield from self._feed_late(each, piece, time)
        else:
            self._late_sides(late, side, transport)
            yield from self._settle(transport, side if asks else 1 - side, time)

    def end(self, side: int, time: float) -> Iterator[Event]:
        """End one direction."""
        if self._over[side]:
            return
        if self._application is None and self._late is not None:
            # The other direction may still tell what this is.
            if not self._over[1 - side]:
                self._over[side] = self._waits = True
                return
            yield from self._settle_late(self._late.try_to(self._late.settle), time)
        elif self._application is None and self._starts[side]:
            yield from self._settle(Transport.OTHER, 0, time)
        for each in (side, 1 - side) if self._waits else (side,):
            if self._application is not None:
                yield from self._seek_on(self._application, each, time)
                self._over[each] = True
                yield from self._finish(self._application, each, time)
            self._over[each] = True
        self._waits = False

    def _seek_on(self, application: Application, side: int, time: float) -> Iterator[Event]:
        """Decode what a direction still holds that is over before its beginning was found."""
        seeker = self._seekers[side]
        if seeker is not None:
            rest = memoryview(b"")
            with suppress(TooMuchWorkError):
                rest = seeker.finish()
            if rest:
                yield from self._decode(application, side, time, rest)

    def _late_sides(self, late: bool, side: int, transport: Transport) -> None:
        """Let the other direction of a late HTTP/2 connection begin anywhere, if this one is a server's."""
        if late and transport is Transport.HTTP2 and not self._starts[side].startswith(b"PRI"):
            self._seekers[1 - side] = Seeker(self._budget, transport)

    def _feed_late(self, side: int, data: bytes, time: float) -> Iterator[Event]:
        if (late := self._late) is not None:
            yield from self._settle_late(late.try_to(lambda: late.feed(side, data)), time)

    def _settle_late(self, start: Start | None, time: float) -> Iterator[Event]:
        if start is None or self._late is None:
            return
        self._late.close()
        self._late = None
        if start.transport in (Transport.HTTP1, Transport.HTTP2, Transport.TLS):
            self._seekers = [Seeker(self._budget, start.transport) for _ in (0, 1)]
        yield from self._settle(start.transport, start.client, time, late=start.transport is not Transport.OTHER)

    def _settle(self, transport: Transport, client: int, time: float, late: bool = False) -> Iterator[Event]:
        self.client = client
        self._application = self._make(transport)
        yield Recognised(transport, client, time, late)
        # The client's first bytes come first: they are few, and a request comes before its response.
        pieces = self._pieces if late else sorted(self._pieces, key=lambda piece: piece[0] != client)
        for side, moment, piece in pieces:
            if not self._over[side] or late:
                yield from self._decode(self._application, side, moment, memoryview(piece))
        self._pieces = []
        for side in (client, 1 - client):
            if self._over[side] and not late:
                yield from self._finish(self._application, side, time)

    def _decode(self, application: Application, side: int, time: float, data: memoryview) -> Iterator[Event]:
        client = side == self.client
        seeker = self._seekers[side]
        if self._switched[side] and self._upgraded is not None:
            application = self._upgraded
        try:
            if seeker is not None:
                if isinstance(application, Http1Connection) and not client and not application.asked:
                    return  # an answer to a request that was not captured
                data = seeker.feed(data)
                if not data:
                    return
            yield from application.feed(client, time, data)
        except Exception as error:
            yield from self._lose(application, side, time, reason_of(error))
        if isinstance(application, Http1Connection) and (rest := application.switched.pop(client, None)) is not None:
            self._switched[side] = True
            if self._upgraded is None:
                self._upgraded = GrpcConnection(self._wanted, self._budget)
                self._upgraded.answer(application.upgrading)
            yield from self._decode(self._upgraded, side, time, memoryview(rest))

    def _lose(self, application: Application, side: int, time: float, reason: str) -> Iterator[Event]:
        self._over[side] = True
        yield Lost(side, reason)
        yield from self._finish(application, side, time)

    def _finish(self, application: Application, side: int, time: float) -> Iterator[Event]:
        for each in (application, self._upgraded) if self._upgraded is not application else (application,):
            try:
                if each is not None:
                    yield from each.end(side == self.client, time)
            except Exception as error:
                yield Lost(side, reason_of(error))

    def _make(self, transport: Transport) -> Application:
        if transport is Transport.HTTP2:
            return GrpcConnection(self._wanted, self._budget, self._infer if any(self._seekers) else None)
        if transport is Transport.HTTP1:
            return Http1Connection(self._wanted, self._budget)
        if transport is Transport.TLS:
            return _Tls()
        return _Opaque()


def recognise(start: bytes) -> tuple[Transport, bool] | None:
    """Return a direction's transport, and whether its sender is the client, by its first bytes; None if too few."""
    if http2.PREFACE.startswith(start):
        return (Transport.HTTP2, True) if len(start) == _START else None
    if start[0] == 22 and start[1:2] in (b"\x03", b""):
        return (Transport.TLS, start[5] == 1) if len(start) > 5 else None
    if any(start.startswith(method) or method.startswith(start) for method in _HTTP1_METHODS):
        return (Transport.HTTP1, True) if len(start) >= 8 else None
    if b"HTTP/1.".startswith(start[:7]):
        return (Transport.HTTP1, False) if len(start) >= 8 else None
    server = http2.looks_like_server(start)
    if server is None:
        return None
    return (Transport.HTTP2, False) if server else (Transport.OTHER, True)
