"""The live eavesdropper as a process: `python -m adversary live --config F` publishes pictures on a port of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from adversary.live.config import LiveConfig
from adversary.live.eavesdropper import CaptureError, Eavesdropper
from wireleak.common.files import write_json
from wireleak.common.serving import listen, serve
from wireleak.common.wire.channel import IPV4_LOOPBACK

# A page that opens late sees so many of the last pictures.
KEPT = 24
_POLL_SECONDS = 0.03


class _Event(NamedTuple):
    number: int
    kind: str
    fields: dict[str, Any]


class Feed:
    """The events for pages: the last status, and the last pictures. Any thread may publish."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._status: _Event | None = None
        self._pictures: deque[_Event] = deque(maxlen=KEPT)

    def publish(self, kind: str, fields: dict[str, Any]) -> None:
        """Add an event."""
        event = _Event(next(self._numbers), kind, fields)
        if kind == "status":
            self._status = event
        else:
            self._pictures.append(event)

    def after(self, number: int) -> list[_Event]:
        """Return the events behind this number, in order."""
        events = [*self._pictures, *([self._status] if self._status else [])]
        return sorted((event for event in events if event.number > number), key=lambda event: event.number)


def application(feed: Feed, origins: list[str]) -> Starlette:
    """Return the web application that publishes a feed to pages of these origins, as server-sent events."""

    async def events(request: Request) -> StreamingResponse:
        last = request.headers.get("last-event-id", "0")
        return StreamingResponse(
            _stream(feed, int(last) if last.isdecimal() else 0),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )

    hosts = [host for origin in origins if (host := urlsplit(origin).hostname)]
    return Starlette(
        routes=[Route("/events", events)],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=[*hosts, *IPV4_LOOPBACK], www_redirect=False),
            Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["GET"]),
        ],
    )


async def _stream(feed: Feed, number: int) -> AsyncIterator[str]:
    # The first line opens the stream at once, also before there is anything to tell.
    yield "retry: 1000\n\n"
    while True:
        for number, kind, fields in feed.after(number):  # noqa: B020 - goes on behind the last event
            yield f"id: {number}\nevent: {kind}\ndata: {json.dumps(fields)}\n\n"
        await asyncio.sleep(_POLL_SECONDS)


def run(config: LiveConfig) -> None:
    """Publish until SIGINT or SIGTERM; the ready file holds the address meanwhile.

    Raises
    ------
    ConfigError
        The attack cannot be used.
    OSError
        The port is in use.
    """
    feed, stopped = Feed(), threading.Event()
    eavesdropper = Eavesdropper(config, feed.publish)
    listener = listen(config.address)
    host = config.address.rpartition(":")[0]
    write_json(config.ready, {"address": f"{host}:{listener.getsockname()[1]}"})
    failed: list[str] = []

    def attack() -> None:
        try:
            eavesdropper.train()
            eavesdropper.watch(stopped)
        except (ValueError, OSError, CaptureError) as error:
            failed.append(str(error))
            feed.publish("status", {"state": "failed", "reason": str(error)})
            print(error, flush=True)

    worker = threading.Thread(target=attack, name="attack", daemon=True)
    worker.start()
    try:
        serve(application(feed, config.origins), listener)
    except SystemExit:
        pass  # a signal ended it
    finally:
        stopped.set()
        config.ready.unlink(missing_ok=True)
        worker.join(2)
    # Training goes on although `stopped` is set. Ending the interpreter under torch's threads would abort the process.
    sys.stdout.flush()
    os._exit(0)
