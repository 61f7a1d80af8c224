"""A stand-in for adb's server: it speaks adb's protocol to the real `adb` command, and plays one or more devices.

Source: Android's own description, packages/modules/adb/OVERVIEW.TXT and SERVICES.TXT. A request is four hex digits of
length and the text; the answer is OKAY or FAIL, and for a list again four hex digits of length and the text.
"""

from __future__ import annotations

import socketserver
import threading
from types import TracebackType
from typing import Any, Self

# adb 1.0.41 ends a server of another version and starts its own.
VERSION = 41


class StandIn:
    """The server. `asked` holds every request; `ports` every port that is reversed on a device.

    Parameters
    ----------
    devices : dict of str to str
        Each device's state by its serial.
    says : str
        What every shell command prints.
    """

    def __init__(self, devices: dict[str, str], says: str = "Starting: Intent { act=VIEW }\n") -> None:
        self.devices = devices
        self.says = says
        self.asked: list[str] = []
        self.ports: dict[str, str] = {}
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer.talk(self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def talk(self, handler: Any) -> None:
        """Answer the requests of one connection."""
        while size := handler.rfile.read(4):
            request = handler.rfile.read(int(size, 16)).decode()
            self.asked.append(request)
            for piece in self.answer(request):
                handler.wfile.write(piece)
            # These hand the connection over to a device, which takes the next request; all others end it.
            if not request.startswith(("host:transport", "host:tport")):
                return

    def answer(self, request: str) -> list[bytes]:
        """Return what the server, or the device behind it, sends back."""
        if request == "host:version":
            return [b"OKAY", text(f"{VERSION:04x}")]
        if request in ("host:devices", "host:devices-l"):
            return [b"OKAY", text("".join(f"{serial}\t{state}\n" for serial, state in self.devices.items()))]
        if request.endswith(":features"):
            return [b"OKAY", text("")]
        if request.startswith(("host:transport", "host:tport")):
            serial = request.rpartition("serial:")[2] if "serial:" in request else request.partition("transport:")[2]
            if serial not in self.devices:
                return [b"FAIL", text(f"device '{serial}' not found")]
            # The newer request also wants the transport's number, eight bytes.
            return [b"OKAY", (1).to_bytes(8, "little")] if "tport" in request else [b"OKAY"]
        if request.startswith("reverse:forward:"):
            device, host = request.removeprefix("reverse:forward:").split(";")
            self.ports[device] = host
            return [b"OKAY", b"OKAY"]
        if request.startswith("reverse:killforward:"):
            device = request.removeprefix("reverse:killforward:")
            if self.ports.pop(device, None) is None:
                return [b"OKAY", b"FAIL", text(f"listener '{device}' not found")]
            return [b"OKAY", b"OKAY"]
        if request.startswith("shell:"):
            return [b"OKAY", self.says.encode()]
        return [b"FAIL", text(f"unknown host service '{request}'")]


def text(content: str) -> bytes:
    """Return a text with its length before it."""
    return f"{len(content):04x}{content}".encode()
