"""The malicious server as a process: clients and ServerApp use it exactly as they use `python -m server head`.

`wireleak.common.wire.service` checks requests and words refusals; the honest head uses it too. The loopback service
repeats the head's (`server/admin.py`), because the adversary may not import the server. `tests/adversary/hijack`
compares the two.
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
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import UInt32Value

from adversary.hijack.config import HijackConfig
from adversary.hijack.fsha import Hijacker
from wireleak.common.config import ConfigError
from wireleak.common.files import write_json
from wireleak.common.wire import bind, channel_options
from wireleak.common.wire.service import Floats, SplitHead
from wireleak.common.wire.split_head_pb2_grpc import add_SplitHeadServicer_to_server
from wireleak.common.wire.turns import order_handler

_ADMIN = "wireleak.server.HeadAdmin"
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
    rounds = _rounds(hijacker, config)
    if (newest := _newest(config.checkpoints)) > 0:
        rounds["Load"](newest)
    server, admin = _server(_MAX_STREAMS), _server(2)
    service = SplitHead(hijacker, config.max_batch, trains=True, pad=config.pad)
    add_SplitHeadServicer_to_server(service, server)
    handlers = {name: _unary(action) for name, action in rounds.items()} | {"Order": order_handler(service.turns)}
    admin.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_ADMIN, handlers),))
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


def _rounds(hijacker: Hijacker, config: HijackConfig) -> dict[str, Callable[[int], None]]:
    def head(server_round: int) -> Path:
        return config.checkpoints / f"head-{server_round}.safetensors"

    def load(server_round: int) -> None:
        if server_round:
            hijacker.load(server_round, head(server_round), config.out)
        else:
            hijacker.reset()

    return {"Save": lambda number: hijacker.save(number, head(number), config.out), "Load": load}


def _newest(folder: Path) -> int:
    """Return the last round with checkpoints of both stages, 0 if there is none."""
    rounds: dict[str, set[int]] = {"encoder": set(), "head": set()}
    for path in folder.glob("*.safetensors"):
        if match := _CHECKPOINT.fullmatch(path.name):
            rounds[match[1]].add(int(match[2]))
    return max(rounds["encoder"] & rounds["head"], default=0)


def _server(threads: int) -> grpc.Server:
    return grpc.server(ThreadPoolExecutor(threads), options=channel_options(), maximum_concurrent_rpcs=threads)


def _unary(action: Callable[[int], None]) -> grpc.RpcMethodHandler[UInt32Value, Empty]:
    def handle(request: UInt32Value, context: grpc.ServicerContext) -> Empty:
        try:
            action(request.value)
        except (OSError, ConfigError) as error:
            context.abort(grpc.StatusCode.INTERNAL, " ".join(str(error).split()))
        return Empty()

    return grpc.unary_unary_rpc_method_handler(
        handle, request_deserializer=UInt32Value.FromString, response_serializer=Empty.SerializeToString
    )
