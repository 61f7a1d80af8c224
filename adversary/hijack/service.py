"""The malicious server as a process: on the wire, and for the ServerApp, what `python -m server head` is.

The checks, their words and the loopback service are the head's (`server/service.py`, `server/admin.py`), written anew
as the adversary may not import them; `tests/adversary/hijack` compares the two.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import torch
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import UInt32Value

from adversary.hijack.config import HijackConfig
from adversary.hijack.fsha import Floats, Hijacker, OverflowedError
from wireleak.config import ConfigError
from wireleak.files import write_json
from wireleak.wire import VERSION, WireError, bind, channel_options, decode_labels, decode_tensor, encode_tensor
from wireleak.wire import split_head_pb2 as pb
from wireleak.wire.split_head_pb2_grpc import SplitHeadServicer, add_SplitHeadServicer_to_server

_ADMIN = "wireleak.server.HeadAdmin"
_CHECKPOINT = re.compile(r"(encoder|head)-([1-9]\d*)\.safetensors")
_MAX_STREAMS = 64
_GRACE_SECONDS = 1.0


class HijackedHead(SplitHeadServicer):
    """Answers devices and training clients as the honest head would, but for the gradients.

    Parameters
    ----------
    hijacker : Hijacker
    max_batch : int
        The most examples in one message.
    """

    def __init__(self, hijacker: Hijacker, max_batch: int) -> None:
        self._hijacker = hijacker
        self._max_batch = max_batch

    def Describe(self, request: pb.DescribeRequest, context: grpc.ServicerContext) -> pb.Description:  # noqa: N802
        """Say what an honest head would expect; FAILED_PRECONDITION where the device asks for something else."""
        model, shape = self._hijacker.model, self._hijacker.activation_shape
        serves = f"the head serves cut {model.cut} of {model.name}"
        if request.model and request.model != model.name:
            _refuse(context, f"model: {serves}, this device asked for {request.model}")
        if request.cut and request.cut != str(model.cut):
            _refuse(context, f"cut: {serves}, this device asked for cut {request.cut}")
        if request.activation_shape and tuple(request.activation_shape) != shape:
            asked = list(request.activation_shape[:8])
            _refuse(context, f"activation_shape: {serves}, {list(shape)}, this device asked for {asked}")
        return pb.Description(
            model=model.name,
            cut=str(model.cut),
            activation_shape=shape,
            dtype=pb.DTYPE_FLOAT32,
            classes=model.classes,
            version=VERSION,
            max_batch=self._max_batch,
        )

    def Predict(  # noqa: N802
        self, request_iterator: Iterator[pb.PredictRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.PredictResponse]:
        """Turn each activation into class probabilities, in order."""
        for sequence, request in enumerate(request_iterator):
            with _invalid_argument(context):
                _check_sequence(request.sequence, sequence)
                prediction = self._hijacker.predict(self._activation(request.activation))
            yield pb.PredictResponse(sequence=sequence, prediction=encode_tensor(prediction))

    def Train(  # noqa: N802
        self, request_iterator: Iterator[pb.TrainRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.TrainResponse]:
        """Take one step of the attack for each batch and return the gradient that serves it, in order."""
        for sequence, request in enumerate(request_iterator):
            with _invalid_argument(context):
                _check_sequence(request.sequence, sequence)
                activation = self._activation(request.activation)
                label = decode_labels(request.label, len(activation), self._hijacker.model.classes)
                gradient, loss = self._hijacker.step(activation, label.copy())
            yield pb.TrainResponse(sequence=sequence, activation_gradient=encode_tensor(gradient), loss=loss)

    def _activation(self, tensor: pb.Tensor) -> Floats:
        batch = tensor.shape[0] if tensor.shape else None
        if batch == 0:
            raise WireError("activation.shape", "the batch is empty; send at least one example")
        if batch is not None and batch > self._max_batch:
            raise WireError("activation.shape", f"a batch of {batch} is over the head's {self._max_batch}")
        values = decode_tensor(tensor, "activation", shape=(None, *self._hijacker.activation_shape))
        if values.dtype.kind != "f":
            raise WireError("activation.dtype", f"{values.dtype} where float32 or float16 is expected")
        # Always a copy: torch needs memory that it may write to.
        return values.astype(np.float32)


@dataclass
class Running:
    """A malicious server that listens.

    Parameters
    ----------
    hijacker : Hijacker
    port, admin_port : int
        Where devices and the ServerApp reach it.
    """

    hijacker: Hijacker
    port: int
    admin_port: int
    _servers: tuple[grpc.Server, grpc.Server]

    def stop(self, grace: float = _GRACE_SECONDS) -> None:
        """Refuse new calls, give those under way `grace` seconds, and wait until all is closed."""
        for done in [server.stop(grace) for server in self._servers]:
            done.wait()


def start(config: HijackConfig) -> Running:
    """Start to serve, from the newest complete checkpoint if there is one.

    Raises
    ------
    ConfigError
        The surrogate does not fit the model, nor a checkpoint, or the credentials are no use.
    OSError
        The port is in use.
    """
    hijacker = Hijacker(config.model, _public(config), config.options, config.seed)
    rounds = _rounds(hijacker, config)
    if (done := _newest(config.checkpoints)) > 0:
        rounds["Load"](done)
    server, admin = _server(_MAX_STREAMS), _server(2)
    add_SplitHeadServicer_to_server(HijackedHead(hijacker, config.max_batch), server)
    handlers = {name: _unary(action) for name, action in rounds.items()}
    admin.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_ADMIN, handlers),))
    try:
        ports = bind(server, config.address, config.security), bind(admin, "127.0.0.1:0")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for each in (server, admin):
        each.start()
    return Running(hijacker, *ports, (server, admin))


def run(config: HijackConfig) -> None:
    """Serve until SIGINT or SIGTERM; while it serves, the ready file says where."""
    # More threads lose: one step at a time, on networks this small.
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
    """The server's own inputs, without transformed copies."""
    from adversary.attacks.knowledge import surrogate

    try:
        inputs = surrogate(config.surrogate, "input", config.seed).without_copies().inputs
    except ValueError as error:
        raise ConfigError(str(error).replace("granted.surrogate", "surrogate")) from None
    if inputs.shape[1:] != config.model.input_shape:
        raise ConfigError(
            f"surrogate: 'x' in {config.surrogate} has inputs of {inputs.shape[1:]}, the model takes "
            f"{config.model.input_shape}; name data of that shape"
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
    """The last round of which both stages were saved, 0 where there is none."""
    found: dict[str, set[int]] = {"encoder": set(), "head": set()}
    for path in folder.glob("*.safetensors"):
        if match := _CHECKPOINT.fullmatch(path.name):
            found[match[1]].add(int(match[2]))
    return max(found["encoder"] & found["head"], default=0)


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


def _check_sequence(got: int, expected: int) -> None:
    if got != expected:
        raise WireError("sequence", f"{got} where {expected} is expected")


@contextmanager
def _invalid_argument(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except WireError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except OverflowedError:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "activation.data: values so large that the head overflows")


def _refuse(context: grpc.ServicerContext, reason: str) -> None:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, reason)
