"""The head as a process: `python -m server head --config F`."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import torch

from server.checkpoints import head_path, newest
from server.config import ServerConfig
from server.limits import SPARE_THREADS, Calls, largest_message, places
from server.stage import HeadStage
from wireleak.common.config import ConfigError, drawn
from wireleak.common.files import write_json
from wireleak.common.wire import bind, channel_options
from wireleak.common.wire.admin import admin_handler
from wireleak.common.wire.channel import MAX_MESSAGE_BYTES
from wireleak.common.wire.limits import Seldom
from wireleak.common.wire.service import SplitHead
from wireleak.common.wire.split_head_pb2_grpc import add_SplitHeadServicer_to_server

GRACE_SECONDS = 1.0
# After this the process ends whatever still runs in it.
END_SECONDS = 4.0

_SERVER_OPTIONS = [
    # A device that lost its network must not hold a thread forever.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A connection that speaks no HTTP/2 must not hold a socket for two minutes.
    ("grpc.server_handshake_timeout_ms", 10_000),
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
    _calls: Calls

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Refuse new calls, give running ones `grace` seconds, and wait a little until all are closed.

        A client that waits for its turn holds its call for longer than that.
        """
        self._calls.close()
        end = time.monotonic() + grace + 1
        for done in [server.stop(grace) for server in self._servers]:
            done.wait(max(0.0, end - time.monotonic()))


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
    largest = largest_message(config)
    number = places(config, largest)
    calls = Calls(config.limits, number, config.limits.idle or config.plan.timeout)
    server = _server(number + SPARE_THREADS, largest, calls)
    service = SplitHead(
        stage,
        config.max_batch,
        trains=config.plan.mode == "split",
        pad=config.pad,
        noise_multiplier=config.privacy.noise_multiplier if config.privacy else 0.0,
    )
    add_SplitHeadServicer_to_server(service, server)
    admin = _server(2, MAX_MESSAGE_BYTES)

    def load(server_round: int) -> None:
        if server_round:
            stage.load(head_path(config.checkpoints, server_round))
        else:
            stage.reset()

    def save(server_round: int) -> None:
        stage.save(head_path(config.checkpoints, server_round))

    admin.add_generic_rpc_handlers((admin_handler(save, load, service.turns, calls.refusals),))
    try:
        ports = bind(server, config.address, config.security), bind(admin, "127.0.0.1:0")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for each in (server, admin):
        each.start()
    return RunningHead(stage, *ports, (server, admin), calls)


def run(config: ServerConfig) -> None:
    """Serve until SIGINT or SIGTERM, then end the process; the ready file holds the addresses meanwhile.

    Neither gRPC's end nor Python's is waited for without a bound. After 100,000 garbage connections gRPC itself stops
    within its grace, but Python then took torch's modules apart for 5 to 12 s on a busy machine. The threads of calls
    are joined, too: a client that waited for its turn held the end up for the whole timeout of turns. A second signal
    can also deadlock with an `Event` that the first has just set. So `sigwait` takes the signals, and `_exit` ends the
    process.
    """
    signals = {signal.SIGINT, signal.SIGTERM}
    # Before gRPC starts threads, which inherit it: a signal that one of them took would never reach `sigwait`.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    for name in ("grpc._server", "grpc._common"):
        logging.getLogger(name).addFilter(Seldom())
    # Networks this small train fastest on one thread.
    torch.set_num_threads(1)
    # From which a head with Dropout draws.
    torch.manual_seed(drawn(config.seed))
    try:
        head = start(config)
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    host = config.address.rpartition(":")[0]
    write_json(config.ready, {"address": f"{host}:{head.port}", "admin": f"127.0.0.1:{head.admin_port}"})
    signal.sigwait(signals)
    # This ends the process also where a thread of gRPC's holds the interpreter's lock.
    faulthandler.dump_traceback_later(END_SECONDS, exit=True)
    config.ready.unlink(missing_ok=True)
    head.stop()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _stage(config: ServerConfig) -> HeadStage:
    if config.privacy is None:
        return HeadStage(config.model, config.plan.head_rate)
    from server.private import PrivateHeadStage

    return PrivateHeadStage(config.model, config.plan, drawn(config.seed))


def _server(threads: int, largest: int, calls: Calls | None = None) -> grpc.Server:
    return grpc.server(
        ThreadPoolExecutor(threads),
        interceptors=[] if calls is None else [calls],
        options=[*channel_options(largest), *_SERVER_OPTIONS],
        maximum_concurrent_rpcs=threads,
    )
