"""Serve a web application of one party on a socket."""

from __future__ import annotations

import contextlib
import os
import socket

import uvicorn
from starlette.types import ASGIApp


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


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve an application on a socket until SIGINT or SIGTERM."""
    settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    # uvicorn raises the signal that ended it once more.
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(settings).run(sockets=[listener])
