"""The relay: forward TCP on many links in one process and record each link as a pcap. Needs no privileges."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from adversary.tap.sources.forward import Relay, Tapped, log, show_address
from adversary.tap.sources.record import CaptureWriteError, CaptureWriter, Endpoint
from wireleak.common.config import ConfigError, Strict, read_config
from wireleak.common.files import write_json

MISTAKE, FAILED = 2, 3


def parse_address(text: str) -> Endpoint:
    """Split "host:port" or "[IPv6]:port".

    Raises
    ------
    ValueError
        There is no port, or it is outside 0..65535.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"'{text}' is no address; write host:port, e.g. 127.0.0.1:4001")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _check_address(text: str) -> str:
    parse_address(text)
    return text


Address = Annotated[str, AfterValidator(_check_address)]


class Link(Strict):
    """One tapped link: connections to `listen` are forwarded to `upstream` and recorded in `capture`."""

    name: str = Field(description="name of the link")
    listen: Address = Field(description="host:port that clients connect to")
    upstream: Address = Field(description="host:port of the real server")
    capture: Path = Field(description="pcap file to write")


class RelayConfig(Strict):
    """Config of `python -m adversary relay`; see docs/explanation/processes.md."""

    links: list[Link] = Field(min_length=1, description="tapped links")
    ready: Path | None = Field(default=None, description="JSON file with its addresses, written once it listens")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for key in ("name", "capture"):
            values = [getattr(link, key) for link in self.links]
            if len(set(values)) < len(values):
                raise ValueError(f"two links have the same {key}; give each its own")
        return self


def main(config: Path) -> None:
    """Run `python -m adversary relay --config F` until SIGINT or SIGTERM.

    Raises
    ------
    SystemExit
        Status 2 for a mistake in the config, 3 if a capture cannot be written; one line on stderr explains it.
    """
    try:
        parsed = read_config(config, RelayConfig)
    except ConfigError as error:
        raise _exit(MISTAKE, str(error)) from error
    _serve(parsed, lambda index, key: f"links[{index}].{key}")


def main_single(listen: str, upstream: str, output: Path) -> None:
    """Tap one link (`wireleak tap --listen H:P --upstream H:P --output FILE`) until SIGINT or SIGTERM."""
    for flag, address in (("--listen", listen), ("--upstream", upstream)):
        try:
            parse_address(address)
        except ValueError as error:
            raise _exit(MISTAKE, f"{flag}: {error}") from error
    link = Link(name="link", listen=listen, upstream=upstream, capture=output)
    flags = {"listen": "--listen", "upstream": "--upstream", "capture": "--output"}
    _serve(RelayConfig(links=[link]), lambda _, key: flags[key])


def _serve(config: RelayConfig, field: Callable[[int, str], str]) -> None:
    _allow_many_files()
    tapped = _open(config.links, field)
    relay = Relay(tapped)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: relay.stop())
    addresses = {link.name: show_address(link.listener.getsockname()[:2]) for link in tapped}
    if config.ready is not None:
        write_json(config.ready, {"links": addresses})
    for link in config.links:
        print(f"tap: {link.name}: {addresses[link.name]} -> {link.upstream}, recorded in {link.capture}", flush=True)
    try:
        relay.run()
    except CaptureWriteError as error:
        raise _exit(FAILED, f"{error}; all links are closed, what was captured stays readable") from error


def _open(links: list[Link], field: Callable[[int, str], str]) -> list[Tapped]:
    """Listen on all links, then create all captures, so that a mistake in one link leaves no files of others."""
    listeners = [_listen(link, field(index, "listen")) for index, link in enumerate(links)]
    upstreams = [_resolve(link, field(index, "upstream")) for index, link in enumerate(links)]
    captures: list[CaptureWriter] = []
    try:
        for index, link in enumerate(links):
            captures.append(_make(link, field(index, "capture")))
    except SystemExit:
        for capture in captures:
            capture.close()
            capture.path.unlink()
        raise
    return list(map(Tapped, [link.name for link in links], listeners, upstreams, captures))


def _listen(link: Link, field: str) -> socket.socket:
    host, port = parse_address(link.listen)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _exit(MISTAKE, f"{field}: {link.listen} is in use; choose another port") from error
        raise _exit(MISTAKE, f"{field}: cannot listen on {link.listen}: {os.strerror(error.errno or 0)}") from error


def _resolve(link: Link, field: str) -> Endpoint:
    try:
        address = socket.getaddrinfo(*parse_address(link.upstream), type=socket.SOCK_STREAM)[0][4]
    except OSError as error:
        raise _exit(MISTAKE, f"{field}: cannot find the host of {link.upstream}: {error.strerror}") from error
    return str(address[0]), int(address[1])


def _make(link: Link, field: str) -> CaptureWriter:
    try:
        return CaptureWriter(link.capture)
    except CaptureWriteError as error:
        raise _exit(MISTAKE, f"{field}: {error}") from error


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _exit(status: int, text: str) -> SystemExit:
    log(text)
    return SystemExit(status)
