"""Recognise the protocol of one TCP stream, and decode it if it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from adversary.tap.decode import http2
from adversary.tap.decode.events import Transport
from adversary.tap.decode.grpc import CallBroken, GrpcConnection, Message
from adversary.tap.decode.http1 import Http1Connection
from adversary.tap.decode.http2 import ProtocolError
from adversary.tap.decode.payload import Budget, TooMuchWorkError
from adversary.tap.decode.tls import TlsSide

_START = len(http2.PREFACE)
_HTTP1_METHODS = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ")


class Recognised(NamedTuple):
    """The stream's transport is recognised; `client` is the TCP side that sends requests."""

    transport: Transport
    client: int
    time: float


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


class Connection:
    """Decoder of one TCP stream.

    Parameters
    ----------
    wanted : callable
        Returns whether the bytes of a method's messages are needed.
    budget : Budget, optional
        Shared by connections with one common memory bound.
    """

    def __init__(self, wanted: Callable[[str], bool], budget: Budget | None = None) -> None:
        self._wanted = wanted
        self._budget = budget or Budget()
        self._application: Application | None = None
        # Bytes before the transport is recognised: under 24 per direction, in pieces with their times.
        self._starts: tuple[list[tuple[float, bytes]], list[tuple[float, bytes]]] = ([], [])
        self._over = [False, False]
        self.client = 0

    def feed(self, side: int, time: float, data: memoryview) -> Iterator[Event]:
        """Yield the events that the next bytes of one direction complete."""
        if self._over[side]:
            return
        if self._application is not None:
            yield from self._decode(self._application, side, time, data)
            return
        held = self._starts[side]
        held.append((time, bytes(data)))
        recognised = recognise(b"".join(piece for _, piece in held)[:_START])
        if recognised is not None:
            transport, asks = recognised
            yield from self._settle(transport, side if asks else 1 - side, time)

    def end(self, side: int, time: float) -> Iterator[Event]:
        """End one direction."""
        if self._over[side]:
            return
        if self._application is None and self._starts[side]:
            yield from self._settle(Transport.OTHER, 0, time)
        self._over[side] = True
        if self._application is not None:
            yield from self._finish(self._application, side, time)

    def _settle(self, transport: Transport, client: int, time: float) -> Iterator[Event]:
        self.client = client
        self._application = self._make(transport)
        yield Recognised(transport, client, time)
        for side in (client, 1 - client):
            for moment, piece in self._starts[side]:
                if not self._over[side]:
                    yield from self._decode(self._application, side, moment, memoryview(piece))
            self._starts[side].clear()
            if self._over[side]:
                yield from self._finish(self._application, side, time)

    def _decode(self, application: Application, side: int, time: float, data: memoryview) -> Iterator[Event]:
        try:
            yield from application.feed(side == self.client, time, data)
        except (ProtocolError, TooMuchWorkError) as error:
            yield from self._lose(application, side, time, str(error))
        except Exception as error:
            # Whatever hostile bytes do to a decoder, they cost their direction and nothing else.
            reason = f"cannot be decoded: {type(error).__name__}: {error}"
            yield from self._lose(application, side, time, reason)

    def _lose(self, application: Application, side: int, time: float, reason: str) -> Iterator[Event]:
        self._over[side] = True
        yield Lost(side, reason)
        yield from self._finish(application, side, time)

    def _finish(self, application: Application, side: int, time: float) -> Iterator[Event]:
        try:
            yield from application.end(side == self.client, time)
        except (ProtocolError, TooMuchWorkError) as error:
            yield Lost(side, str(error))
        except Exception as error:
            yield Lost(side, f"cannot be decoded: {type(error).__name__}: {error}")

    def _make(self, transport: Transport) -> Application:
        if transport is Transport.HTTP2:
            return GrpcConnection(self._wanted, self._budget)
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
