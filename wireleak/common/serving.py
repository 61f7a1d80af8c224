"""Serve a web application of one party on a socket, so that no client can lock out the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from wireleak.common.wire.limits import Seldom

# A client may let the server wait for so long: for the headers of a request, or for room in its receive buffer.
IDLE_SECONDS = 30.0
# Connections at once. The one that has let the server wait longest gives way to a newcomer.
MOST_CONNECTIONS = 256
# Bytes of a request's headers; more are answered with status 400.
MOST_HEADER_BYTES = 16 << 10


def listen(address: str) -> socket.socket:
    """Listen on "host:port".

    Raises
    ------
    OSError
        The port is in use, or the host is not this machine's.
    """
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host.strip("[]"), int(port)), backlog=128)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}; choose another port") from error


def serve(app: ASGIApp, listener: socket.socket, idle: float = IDLE_SECONDS) -> None:
    """Serve an application on a socket until SIGINT or SIGTERM.

    Parameters
    ----------
    app : ASGIApp
    listener : socket
    idle : float
        Seconds for which a client may let the server wait.
    """

    class Connection(_Connection):
        patience = idle

    settings = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    logging.getLogger("uvicorn.error").addFilter(Seldom())
    # uvicorn raises the signal that ended it once more.
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(settings).run(sockets=[listener])


class _Connection(H11Protocol):
    """A client's connection, which is closed where the server waits for it too long.

    uvicorn limits only the time between two requests: the first byte of a request ends that limit.
    """

    patience = IDLE_SECONDS
    _waits_since: float | None = None
    _timer: asyncio.TimerHandle | None = None
    _full = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admit a connection in the place of the one that has let the server wait longest."""
        super().connection_made(transport)
        self._begin_turn()
        if len(self.connections) > MOST_CONNECTIONS:
            own = [each for each in self.connections if isinstance(each, _Connection)]
            max(own, key=_Connection._waited)._drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._end_turn()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request; the time for its headers goes on until they are whole."""
        super().data_received(data)
        if not self._is_waiting():
            self._end_turn()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._begin_turn()

    def pause_writing(self) -> None:
        """Wait until the client reads."""
        super().pause_writing()
        self._full = True
        self._begin_turn()

    def resume_writing(self) -> None:
        """Go on once the client has read."""
        super().resume_writing()
        self._full = False
        self._begin_turn()

    def _is_waiting(self) -> bool:
        return self._full or self.cycle is None or self.cycle.response_complete

    def _waited(self) -> float:
        return -1.0 if self._waits_since is None else time.monotonic() - self._waits_since

    def _begin_turn(self) -> None:
        self._end_turn()
        if self._is_waiting():
            self._waits_since = time.monotonic()
            self._timer = self.loop.call_later(self.patience, self._drop)

    def _end_turn(self) -> None:
        self._waits_since = None
        if self._timer is not None:
            self._timer.cancel()

    def _drop(self) -> None:
        # Counted out at once: several newcomers may come before the loop has closed it.
        self.connections.discard(self)
        self.transport.abort()
