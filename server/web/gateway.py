"""The gateway as a process: `python -m server gateway --config F`."""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.web.calls import Calls
from server.web.config import GatewayConfig
from server.web.forward import Forward
from wireleak.common.config import ConfigError
from wireleak.common.files import write_json
from wireleak.common.serving import IDLE_SECONDS, listen, serve

mimetypes.add_type("application/manifest+json", ".webmanifest")
mimetypes.add_type("text/javascript", ".mjs")
mimetypes.add_type("application/wasm", ".wasm")


def application(config: GatewayConfig) -> Starlette:
    """Return the gateway's web application.

    Raises
    ------
    ConfigError
        A folder lacks its files.
    """
    for field, folder, name in (
        ("pages", config.pages, "index.html"),
        ("encoder", config.encoder, "encoder.onnx"),
        ("encoder", config.encoder, "manifest.json"),
    ):
        if not (folder / name).is_file():
            raise ConfigError(f"{field}: {folder} holds no {name}; name the folder that does")
    forward = Forward(config.head, config.security, config.largest)

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        yield
        await forward.close()

    async def about(_: Request) -> JSONResponse:
        return JSONResponse(config.model_dump(mode="json", include={"title", "eavesdropper", "cuts"}))

    return Starlette(
        routes=[
            Mount(forward.path, Calls(forward, config.limits, config.largest)),
            Route("/about.json", about),
            Mount("/encoder", StaticFiles(directory=config.encoder)),
            Mount("/", StaticFiles(directory=config.pages, html=True)),
        ],
        middleware=[
            # Another site's name that resolves to this machine opens nothing here.
            Middleware(TrustedHostMiddleware, allowed_hosts=config.hosts, www_redirect=False),
            Middleware(_Headers, policy=content_security_policy(config)),
        ],
        lifespan=life,
    )


def content_security_policy(config: GatewayConfig) -> str:
    """Return the policy that lets the page reach this gateway and the eavesdropper, and no other host."""
    port = config.eavesdropper
    others = " ".join(f"http://{_in_url(host)}:{port}" for host in config.hosts) if port else ""
    return "; ".join(
        (
            "default-src 'none'",
            # WebAssembly needs its own permission; text that becomes JavaScript stays forbidden.
            "script-src 'self' 'wasm-unsafe-eval'",
            "style-src 'self'",
            "font-src 'self'",
            "img-src 'self' blob: data:",
            f"connect-src 'self' {others}".rstrip(),
            "manifest-src 'self'",
            "worker-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def run(config: GatewayConfig) -> None:
    """Serve until SIGINT or SIGTERM; the ready file holds the address meanwhile.

    Raises
    ------
    ConfigError
        A folder lacks its files.
    OSError
        The port is in use.
    """
    app = application(config)
    listener = listen(config.address)
    host = config.address.rpartition(":")[0]
    write_json(config.ready, {"address": f"{host}:{listener.getsockname()[1]}"})
    try:
        serve(app, listener, config.limits.idle or IDLE_SECONDS)
    finally:
        config.ready.unlink(missing_ok=True)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Headers:
    """Adds the page's security headers to every response."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self._app = app
        self._added = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            # A newer build must reach a browser that knows an older one; unchanged files cost one short answer.
            "cache-control": "no-cache",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._added)
            await send(message)

        await self._app(scope, receive, answer)
