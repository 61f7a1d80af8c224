"""Limits of the calls to the head, so that no peer can lock out the others or fill the memory.

A call holds a thread as long as it lasts, and its next message may be as large as the largest. So the number of calls
is limited, over all peers and of each connection. A call gives way to a newcomer once its client has sent nothing, or
taken no answer, for a second. After `idle` seconds it is ended in any case.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import grpc

from server.config import ServerConfig
from wireleak.common.config import Limits
from wireleak.common.wire.channel import MAX_MESSAGE_BYTES
from wireleak.common.wire.limits import GIVES_WAY_SECONDS, Seldom
from wireleak.common.wire.turns import NODE
from wireleak.common.words import printable

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    _Interceptor = grpc.ServerInterceptor[Any, Any]
else:
    # grpc-stubs make it generic, gRPC does not.
    _Interceptor = grpc.ServerInterceptor

Handler = Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Any]]

# A connection may have so many calls more than another before it gives way to it at once.
FAIR_CALLS = 8
# Threads for calls that wait for a place or are refused.
SPARE_THREADS = 8
# Beyond the numbers of a message: its labels and fields.
_FREE_BYTES = 1 << 20
_TICK_SECONDS = 0.25
_PLACE_SECONDS = 2.0
_MOST_REFUSALS = 100
_NODE_DIGITS = 20

logger.addFilter(Seldom())


def largest_message(config: ServerConfig) -> int:
    """Return the bytes of the largest message that a device may send to this head, padding included."""
    shape = config.model.network().activation_shape(config.model.cut)
    numbers = 4 * config.max_batch * math.prod(shape) + _FREE_BYTES
    padded = 2 * numbers if config.pad == "powers" else numbers + (config.pad or 0)
    return min(MAX_MESSAGE_BYTES, padded)


def places(config: ServerConfig, largest: int) -> int:
    """Return how many calls fit: as many as `limits` allow, and never fewer than a round's clients need."""
    limits = config.limits
    return max(min(limits.streams, (limits.memory << 20) // largest), min(limits.streams, config.clients + 2))


class _Call:
    """A call that holds a place."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self.context = context
        self.peer = context.peer()
        self.address = self.peer.rpartition(":")[0]
        self.began = time.monotonic()
        # When the client's turn to send, or to take an answer, began; None while the head computes.
        self.waits_since: float | None = self.began
        self.ended = False

    def idle(self, now: float) -> float:
        """Return the seconds for which the client has let the head wait."""
        return 0.0 if self.waits_since is None else now - self.waits_since

    def watched(self, requests: Iterator[Any]) -> Iterator[Any]:
        """Pass messages on."""
        for request in requests:
            self.waits_since = None
            yield request
            self.waits_since = time.monotonic()


class Calls(_Interceptor):
    """Admits calls, and ends those that hold a place without using it.

    Parameters
    ----------
    limits : Limits
    number : int
        Calls at once, over all peers.
    idle : float
        Seconds without a message after which a call is ended.
    """

    def __init__(self, limits: Limits, number: int, idle: float) -> None:
        self._limits = limits
        self._number = number
        self._idle = idle
        self._calls: set[_Call] = set()
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._refusals: list[tuple[str, str]] = []
        threading.Thread(target=self._watch, name="limits", daemon=True).start()

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Count every call as a stream: gRPC would wait without end for the message of a unary one."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        behaviour: Handler = handler.stream_stream or _as_stream(handler.unary_unary)

        def serve(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            call = self._admit(context)
            try:
                for answer in behaviour(call.watched(requests), cast(Any, _Named(context, self._note))):
                    call.waits_since = time.monotonic()
                    yield answer
            finally:
                with self._changed:
                    self._calls.discard(call)
                    self._changed.notify_all()

        return grpc.stream_stream_rpc_method_handler(serve, handler.request_deserializer, handler.response_serializer)

    def refusals(self) -> list[tuple[str, str]]:
        """Return and forget the refused streams of training clients: their node, as they state it, and the reason."""
        with self._changed:
            refused, self._refusals = self._refusals, []
        return refused

    def close(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def _admit(self, context: grpc.ServicerContext) -> _Call:
        call = _Call(context)
        with self._changed:
            own = [each for each in self._calls if each.peer == call.peer]
            if len(own) >= self._limits.peer_streams:
                limit = f"a connection may have {self._limits.peer_streams} calls at once"
                self._make_place(call, own, f"peer_streams: {limit}; end one first")
            elif len(self._calls) >= self._number:
                limit = f"the head answers {self._number} calls at once"
                self._make_place(call, list(self._calls), f"streams: {limit}; try again later")
            self._calls.add(call)
        return call

    def _make_place(self, new: _Call, calls: list[_Call], reason: str) -> None:
        """End the longest idle call of the peer that has most of them, or refuse the new one."""
        now, most = time.monotonic(), len(calls)
        peers = Counter(call.peer for call in self._calls)
        addresses = Counter(call.address for call in self._calls)
        idle = [
            call
            for call in calls
            if not call.ended
            # A connection with many calls gives way to one with few as soon as a call of it waits.
            and call.idle(now) >= (GIVES_WAY_SECONDS if peers[call.peer] < peers[new.peer] + FAIR_CALLS else 1e-3)
        ]
        if idle:
            longest = max(idle, key=lambda call: (addresses[call.address], peers[call.peer], call.idle(now)))
            self._end(longest, f"{reason} (idle call)")
        if not idle or not self._changed.wait_for(lambda: len(self._calls & set(calls)) < most, _PLACE_SECONDS):
            logger.warning("a call of %s was refused: %s", new.peer, reason)
            new.context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, reason)

    def _watch(self) -> None:
        while not self._stopped.wait(_TICK_SECONDS):
            now = time.monotonic()
            with self._changed:
                for call in [call for call in self._calls if not call.ended]:
                    if call.idle(now) > self._idle:
                        self._end(call, f"idle: this call was idle for {self._idle:g} s; open another")
                    elif self._limits.age is not None and now - call.began > self._limits.age:
                        self._end(call, f"age: a call may last {self._limits.age:g} s; open another")

    def _end(self, call: _Call, reason: str) -> None:
        call.ended = True
        logger.warning("a call of %s was ended: %s", call.peer, reason)
        _end_with_status(call.context, reason)

    def _note(self, context: grpc.ServicerContext, reason: str) -> None:
        metadata: Any = context.invocation_metadata()
        node, reason = str(dict(metadata).get(NODE, "")), printable(reason)
        named = node.isdecimal() and len(node) <= _NODE_DIGITS
        logger.warning("a call of %s was refused: %s", f"client {node}" if named else context.peer(), reason)
        with self._changed:
            if named and len(self._refusals) < _MOST_REFUSALS:
                self._refusals.append((node, reason))


class _Named:
    """A call's context that notes why the service refuses its messages."""

    def __init__(self, context: grpc.ServicerContext, note: Callable[[grpc.ServicerContext, str], None]) -> None:
        self._context = context
        self._note = note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        """Note the reason, and end the call."""
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            self._note(self._context, details)
        self._context.abort(code, details)


def _as_stream(behaviour: Callable[[Any, grpc.ServicerContext], Any]) -> Handler:
    def answer(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            yield behaviour(request, context)
            return

    return answer


def _end_with_status(context: Any, reason: str) -> None:
    """End a call from another thread. gRPC's public `cancel` does it without a status of ours."""
    try:
        context._rpc_event.call.cancel(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], reason)
    except (AttributeError, TypeError):
        context.cancel()
