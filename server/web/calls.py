"""Limits of the calls to the gateway: how many at once, and how long one may wait for its browser."""

from __future__ import annotations

import asyncio
import logging
import math
import time

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wireleak.common.config import Limits
from wireleak.common.serving import IDLE_SECONDS
from wireleak.common.wire.limits import GIVES_WAY_SECONDS, Seldom

logger = logging.getLogger(__name__)
logger.addFilter(Seldom())


class _Call:
    """A call, which reads its request and sends its answer through this object."""

    def __init__(self, peer: str, receive: Receive, send: Send, limits: Limits) -> None:
        self.peer = peer
        self._receive, self._send = receive, send
        self._idle = limits.idle or IDLE_SECONDS
        self._age = limits.age or math.inf
        self._began = time.monotonic()
        self._whole = False
        # When the browser's turn to send began; None where its request is whole.
        self.waits_since: float | None = self._began
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def idle(self) -> float:
        """Return the seconds for which the browser has let the gateway wait."""
        return 0.0 if self.waits_since is None else time.monotonic() - self.waits_since

    async def receive(self) -> Message:
        """Return the next part of the request, or that the browser has gone.

        Raises
        ------
        ConnectError
            It did not come in time, or this call gave way to another.
        """
        if self._whole:
            return await self._receive()
        self.waits_since = time.monotonic()
        step = asyncio.ensure_future(self._receive())
        try:
            left = max(0.0, self._began + self._age - self.waits_since)
            await asyncio.wait((step, self.ended), timeout=min(self._idle, left), return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                idle = f"idle: this call was idle for {self._idle:g} s; send it again"
                self.end(idle if self._idle <= left else f"age: a call may last {self._age:g} s; send it again")
            if self.ended.done():
                raise ConnectError(Code.RESOURCE_EXHAUSTED, self.ended.result())
            message: Message = step.result()
        finally:
            step.cancel()
            self.waits_since = None
        self._whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; TimeoutError if the browser does not take it in time."""
        await asyncio.wait_for(self._send(message), self._idle)

    def end(self, reason: str) -> None:
        """End the call where it waits for its request."""
        if not self.ended.done():
            logger.warning("a call of %s was ended: %s", self.peer, reason)
            self.ended.set_result(reason)


class Calls:
    """Admits calls to an application; a newcomer takes the place of the call that has been idle longest.

    Parameters
    ----------
    app : ASGIApp
        The application, which answers a `ConnectError` in the protocol of its call.
    limits : Limits
    largest : int
        Bytes of the largest message.
    """

    def __init__(self, app: ASGIApp, limits: Limits, largest: int) -> None:
        self._app = app
        self._number = min(limits.streams, max(1, (limits.memory << 20) // largest))
        self._limits = limits
        self._calls: set[_Call] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        call = _Call(":".join(map(str, scope.get("client") or ("?",))), receive, send, self._limits)
        if len(self._calls) >= self._number:
            reason = f"streams: the gateway answers {self._number} calls at once; try again later"
            longest = max(self._calls, key=_Call.idle)
            (longest if longest.idle() >= GIVES_WAY_SECONDS else call).end(reason)
        self._calls.add(call)
        try:
            await self._app(scope, call.receive, call.send)
        finally:
            self._calls.discard(call)
