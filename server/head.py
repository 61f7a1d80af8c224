"""The head as a process: `python -m server head --config F`."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import torch

from server.admin import admin_handler
from server.checkpoints import head_path, newest
from server.config import ServerConfig
from server.stage import HeadStage
from wireleak.common.config import ConfigError, drawn
from wireleak.common.files import write_json
from wireleak.common.wire import bind, channel_options
from wireleak.common.wire.service import SplitHead
from wireleak.common.wire.split_head_pb2_grpc import add_SplitHeadServicer_to_server

# A stream holds a thread as long as it lasts. Further clients are refused at once instead of waiting.
MAX_STREAMS = 64
GRACE_SECONDS = 1.0

_SERVER_OPTIONS = [
    # A device that lost its network must not hold a thread forever.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]


@dataclass
class RunningHead:
    """A head that is serving.

    Parameters
    ----------
    stage : HeadStage
        Its weights.
    port, admin_port : int
        Ports for devices and for the ServerApp.
    """

    stage: HeadStage
    port: int
    admin_port: int
    _servers: tuple[grpc.Server, grpc.Server]

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Refuse new calls, give running ones `grace` seconds, and wait until all are closed."""
        for done in [server.stop(grace) for server in self._servers]:
            done.wait()


def start(config: ServerConfig) -> RunningHead:
    """Start serving, from the newest complete checkpoint if there is one.

    Raises
    ------
    ConfigError
        The checkpoint does not fit the model, or the credentials cannot be used.
    OSError
        The port is in use.
    """
    stage = _stage(config)
    if (done := newest(config.checkpoints)) > 0:
        stage.load(head_path(config.checkpoints, done))
    server = _server(MAX_STREAMS)
    service = SplitHead(
        stage,
        config.max_batch,
        trains=config.plan.mode == "split",
        pad=config.pad,
        noise_multiplier=config.privacy.noise_multiplier if config.privacy else 0.0,
    )
    add_SplitHeadServicer_to_server(service, server)
    admin = _server(2)
    admin.add_generic_rpc_handlers((admin_handler(stage, config.checkpoints, service.turns),))
    try:
        ports = bind(server, config.address, config.security), bind(admin, "127.0.0.1:0")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for each in (server, admin):
        each.start()
    return RunningHead(stage, *ports, (server, admin))


def run(config: ServerConfig) -> None:
    """Serve until SIGINT or SIGTERM; the ready file holds the addresses meanwhile."""
    # Networks this small train fastest on one thread.
    torch.set_num_threads(1)
    # From which a head with Dropout draws.
    torch.manual_seed(drawn(config.seed))
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    head = start(config)
    host = config.address.rpartition(":")[0]
    write_json(config.ready, {"address": f"{host}:{head.port}", "admin": f"127.0.0.1:{head.admin_port}"})
    stopped.wait()
    config.ready.unlink(missing_ok=True)
    head.stop()


def _stage(config: ServerConfig) -> HeadStage:
    if config.privacy is None:
        return HeadStage(config.model, config.plan.learning_rate)
    from server.private import PrivateHeadStage

    return PrivateHeadStage(config.model, config.plan, drawn(config.seed))


def _server(threads: int) -> grpc.Server:
    return grpc.server(
        ThreadPoolExecutor(threads),
        options=[*channel_options(), *_SERVER_OPTIONS],
        maximum_concurrent_rpcs=threads,
    )
