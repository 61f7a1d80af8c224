"""The malicious server as a process: clients and ServerApp use it exactly as they use `python -m server head`.

`wireleak.common.wire` has what the honest head uses too: the service that checks requests and words refusals, and the
loopback service of the ServerApp.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import torch

from adversary.hijack.config import HijackConfig
from adversary.hijack.fsha import Hijacker
from wireleak.common.config import ConfigError
from wireleak.common.files import write_json
from wireleak.common.wire import bind, channel_options
from wireleak.common.wire.admin import admin_handler
from wireleak.common.wire.service import Floats, SplitHead
from wireleak.common.wire.split_head_pb2_grpc import add_SplitHeadServicer_to_server

_CHECKPOINT = re.compile(r"(encoder|head)-([1-9]\d*)\.safetensors")
_MAX_STREAMS = 64
_GRACE_SECONDS = 1.0


@dataclass
class Running:
    """A malicious server that is listening.

    Parameters
    ----------
    hijacker : Hijacker
    port, admin_port : int
        Ports for devices and for the ServerApp.
    """

    hijacker: Hijacker
    port: int
    admin_port: int
    _servers: tuple[grpc.Server, grpc.Server]

    def stop(self, grace: float = _GRACE_SECONDS) -> None:
        """Refuse new calls, give running calls `grace` seconds to end, and wait until both services are closed."""
        for closed in [server.stop(grace) for server in self._servers]:
            closed.wait()


def start(config: HijackConfig) -> Running:
    """Start serving, from the newest complete checkpoint if there is one.

    Raises
    ------
    ConfigError
        The surrogate examples or a checkpoint do not fit the model, or the credentials cannot be used.
    OSError
        The port is in use.
    """
    hijacker = Hijacker(config.model, _public(config), config.options, config.seed)
    save, load = _rounds(hijacker, config)
    if (newest := _newest(config.checkpoints)) > 0:
        load(newest)
    server, admin = _server(_MAX_STREAMS), _server(2)
    service = SplitHead(hijacker, config.max_batch, trains=True, pad=config.pad)
    add_SplitHeadServicer_to_server(service, server)
    admin.add_generic_rpc_handlers((admin_handler(save, load, service.turns),))
    try:
        ports = bind(server, config.address, config.security), bind(admin, "127.0.0.1:0")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for each in (server, admin):
        each.start()
    return Running(hijacker, *ports, (server, admin))


def run(config: HijackConfig) -> None:
    """Serve until SIGINT or SIGTERM; meanwhile the ready file holds the addresses."""
    # Networks this small train faster on one thread.
    torch.set_num_threads(1)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    running = start(config)
    host = config.address.rpartition(":")[0]
    write_json(config.ready, {"address": f"{host}:{running.port}", "admin": f"127.0.0.1:{running.admin_port}"})
    stopped.wait()
    config.ready.unlink(missing_ok=True)
    running.stop()


def _public(config: HijackConfig) -> Floats:
    """Read the server's own inputs, without transformed copies."""
    from adversary.attacks.harness.knowledge import surrogate

    try:
        inputs = surrogate(config.surrogate, None, config.seed).without_copies().inputs
    except ValueError as error:
        raise ConfigError(str(error).replace("granted.surrogate", "surrogate")) from None
    if inputs.shape[1:] != config.model.input_shape:
        raise ConfigError(
            f"surrogate: 'x' in {config.surrogate} has inputs of {inputs.shape[1:]}, the model takes "
            f"{config.model.input_shape}; name a file with inputs of that shape"
        )
    return inputs


def _rounds(hijacker: Hijacker, config: HijackConfig) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """Return what writes a round's checkpoint, and what reads it."""

    def head(server_round: int) -> Path:
        return config.checkpoints / f"head-{server_round}.safetensors"

    def load(server_round: int) -> None:
        if server_round:
            hijacker.load(server_round, head(server_round), config.out)
        else:
            hijacker.reset()

    def save(server_round: int) -> None:
        hijacker.save(server_round, head(server_round), config.out)

    return save, load


def _newest(folder: Path) -> int:
    """Return the last round with checkpoints of both stages, 0 if there is none."""
    rounds: dict[str, set[int]] = {"encoder": set(), "head": set()}
    for path in folder.glob("*.safetensors"):
        if match := _CHECKPOINT.fullmatch(path.name):
            rounds[match[1]].add(int(match[2]))
    return max(rounds["encoder"] & rounds["head"], default=0)


def _server(threads: int) -> grpc.Server:
    return grpc.server(ThreadPoolExecutor(threads), options=channel_options(), maximum_concurrent_rpcs=threads)
