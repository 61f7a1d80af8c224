"""Forward TCP connections between the two ends of links, and record their bytes, in one thread."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adversary.tap.sources.record import CaptureWriter, Conversation, Endpoint
from adversary.tap.sources.spool import DELAY_NS, Spool

# Most bytes of one read: a larger piece leaves the processor's cache before it is forwarded.
CHUNK = 256 << 10
# Most events that one poll returns.
_EVENTS = 64
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Tapped:
    """A link ready to be relayed: connections to `listener` are forwarded to `upstream` (IP address and port)."""

    name: str
    listener: socket.socket
    upstream: Endpoint
    capture: CaptureWriter


class _Side:
    """One of a connection's two sockets."""

    def __init__(self, sock: socket.socket, index: int) -> None:
        self.sock = sock
        self.index = index
        self.peer = self
        self.conversation: Conversation | None = None
        # Bytes from the peer that this socket has not taken yet. Until it has, the peer is not read.
        self.backlog: memoryview | None = None
        self.ended = False
        self.closed = False
        self.mask = 0


class Relay:
    """Forward and record every connection on the given links; one thread (epoll) forwards, the spool's thread writes.

    Parameters
    ----------
    links : sequence of Tapped
        The links, each already listening.
    """

    def __init__(self, links: Sequence[Tapped]) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._sides: set[_Side] = set()
        self._closing: list[socket.socket] = []
        self._listeners = [link.listener for link in links]
        self._paused: list[socket.socket] = []
        self._stopping = False
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._add(self._wake, self._woken)
        for link in links:
            link.listener.setblocking(False)
            self._add(link.listener, self._accepter(link))
        self._spool = Spool([link.capture for link in links], self.stop)

    def stop(self) -> None:
        """Make `run` end soon; any thread may call this."""
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def run(self) -> None:
        """Relay until `stop`; all bytes received until then are written to the files.

        Raises
        ------
        CaptureWriteError
            A capture cannot be written; all links are closed.
        """
        spool, handlers = self._spool, self._handlers
        waiting = False
        while not self._stopping:
            events = self._epoll.poll(DELAY_NS / 1e9 if waiting else -1, _EVENTS)
            for descriptor, _ in events:
                handler = handlers.get(descriptor)
                if handler is not None:
                    handler()
            waiting = spool.hand_over_if_due(time.time_ns(), active=bool(events))
            if self._closing:
                self._close_pending()
        self._close()

    def _close(self) -> None:
        for side in self._sides:
            side.sock.close()
        for sock in (*self._listeners, *self._closing, self._wake):
            sock.close()
        self._epoll.close()
        self._spool.close()
        self._waker.close()
        if self._spool.error is not None:
            raise self._spool.error

    def _close_pending(self) -> None:
        # Sockets are closed only after all events of a poll: a reused descriptor must not get an old socket's event.
        for sock in self._closing:
            sock.close()
        self._closing.clear()
        for listener in self._paused:
            self._epoll.register(listener, select.EPOLLIN)
        self._paused.clear()

    def _add(self, sock: socket.socket, handler: Callable[[], None]) -> None:
        self._handlers[sock.fileno()] = handler
        self._epoll.register(sock, select.EPOLLIN)

    def _woken(self) -> None:
        self._wake.recv(4096)
        self._stopping = True

    def _accepter(self, link: Tapped) -> Callable[[], None]:
        family = socket.AF_INET6 if ":" in link.upstream[0] else socket.AF_INET

        def accept() -> None:
            try:
                sock, address = link.listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(link, error)
                return
            client = _Side(sock, 0)
            try:
                server = _Side(socket.socket(family, socket.SOCK_STREAM), 1)
            except OSError as error:
                sock.close()
                self._pause(link, error)
                return
            client.peer, server.peer = server, client
            self._sides |= {client, server}
            for side in (client, server):
                side.sock.setblocking(False)
                side.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connect(link, server, address[:2])

        return accept

    def _pause(self, link: Tapped, error: OSError) -> None:
        """Stop accepting until a connection ends, for example when file descriptors run out."""
        log(f"{link.name}: cannot accept a connection: {error.strerror}; waiting until another connection ends")
        self._epoll.unregister(link.listener)
        self._paused.append(link.listener)

    def _connect(self, link: Tapped, server: _Side, client: Endpoint) -> None:
        def connected() -> None:
            code = server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                refused(code)
                return
            conversation = link.capture.converse(client, link.upstream, time.time_ns())
            for side in (server, server.peer):
                side.conversation = conversation
                self._handlers[side.sock.fileno()] = self._forwarder(side)
                self._watch(side)

        def refused(code: int) -> None:
            upstream, address = show_address(link.upstream), show_address(client)
            log(f"{link.name}: upstream {upstream}: {os.strerror(code)}; the client {address} was disconnected")
            self._abort(server)

        code = server.sock.connect_ex(link.upstream)
        if code not in (0, errno.EINPROGRESS):
            refused(code)
            return
        self._handlers[server.sock.fileno()] = connected
        server.mask = select.EPOLLOUT
        self._epoll.register(server.sock, server.mask)

    def _forwarder(self, side: _Side) -> Callable[[], None]:
        def forward() -> None:
            try:
                if side.backlog is not None:
                    self._drain(side)
                if side.peer.backlog is None and not side.ended:
                    self._read(side)
            except BlockingIOError:
                return
            except OSError:
                self._reset(side)

        return forward

    def _read(self, side: _Side) -> None:
        """Read once, forward, then record, so that the peer never waits for the recording."""
        space = self._spool.space(CHUNK)
        size = side.sock.recv_into(space)
        now = time.time_ns()
        assert side.conversation is not None
        if not size:
            side.conversation.finish(side.index, now)
            side.ended = True
            self._end(side)
            return
        payload = space[:size]
        try:
            sent = side.peer.sock.send(payload)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = -1
        self._spool.keep(size)
        side.conversation.data(side.index, payload, now)
        if sent < 0:
            self._reset(side.peer)
        elif sent < size:
            side.peer.backlog = memoryview(bytes(payload[sent:]))
            self._watch(side)
            self._watch(side.peer)

    def _drain(self, side: _Side) -> None:
        """Send the backlog."""
        assert side.backlog is not None
        sent = side.sock.send(side.backlog)
        if sent < len(side.backlog):
            side.backlog = side.backlog[sent:]
            return
        side.backlog = None
        if side.peer.ended:
            self._end(side.peer)
        self._watch(side)
        self._watch(side.peer)

    def _end(self, side: _Side) -> None:
        """Forward the end of `side`'s bytes to its peer, after the bytes themselves."""
        peer = side.peer
        if peer.backlog is None:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_WR)
            if peer.ended and side.backlog is None:
                self._drop(side)
                return
        self._watch(side)

    def _reset(self, side: _Side) -> None:
        """Record that `side` reset the connection, and reset the peer too."""
        if not side.closed and side.conversation is not None:
            side.conversation.reset(side.index, time.time_ns())
        self._abort(side)

    def _abort(self, side: _Side) -> None:
        for end in (side, side.peer):
            if not end.closed:
                end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._drop(side)

    def _drop(self, side: _Side) -> None:
        for end in (side, side.peer):
            if end.closed:
                continue
            end.closed = True
            if end.mask:
                self._epoll.unregister(end.sock)
            self._handlers.pop(end.sock.fileno(), None)
            self._closing.append(end.sock)
            self._sides.discard(end)

    def _watch(self, side: _Side) -> None:
        """Register `side` for the events that it can use; if there are none, it is not polled."""
        if side.closed:
            return
        mask = select.EPOLLIN if not side.ended and side.peer.backlog is None else 0
        if side.backlog is not None:
            mask |= select.EPOLLOUT
        if mask == side.mask:
            return
        if not mask:
            self._epoll.unregister(side.sock)
        elif not side.mask:
            self._epoll.register(side.sock, mask)
        else:
            self._epoll.modify(side.sock, mask)
        side.mask = mask


def show_address(endpoint: Endpoint) -> str:
    """Return "host:port", or "[IPv6]:port"."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def log(text: str) -> None:
    """Write the tap's one-line message to stderr."""
    print(f"tap: {text}", file=sys.stderr, flush=True)
