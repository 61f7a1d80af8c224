"""The device's link to the head: first `Describe`, then one stream of requests and answers."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

import grpc
import numpy as np
import numpy.typing as npt

from wireleak.common.head.config import HeadConfig
from wireleak.common.models import ModelConfig
from wireleak.common.wire import VERSION, WireError, decode_tensor, encode_tensor, open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.padding import Pad, pad_message
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub
from wireleak.common.wire.turns import NODE

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

DESCRIBE_SECONDS = 30.0

Request = TypeVar("Request")
Response = TypeVar("Response")


class HeadError(RuntimeError):
    """The head refused, failed or cannot be reached; the message is one line."""


class HeadStream(Generic[Request, Response]):
    """One bidirectional call; the caller decides when to send and when to receive.

    Parameters
    ----------
    method : StreamStreamMultiCallable
        `stub.Predict` or `stub.Train`.
    """

    def __init__(self, method: grpc.StreamStreamMultiCallable[Request, Response]) -> None:
        self._outbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._call = method(self._requests())
        self._answers = cast(Iterator[Response], self._call)  # grpc-stubs types the call, but not as an iterator

    def __enter__(self) -> HeadStream[Request, Response]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outbox.put(None)
        if kind is None:
            # Wait until the service has ended the call too: before that its last step may not be finished.
            for _ in self._answers:
                raise HeadError("the head sent an answer without a request")
        else:
            self._call.cancel()

    def send(self, request: Request) -> None:
        """Queue one message."""
        self._outbox.put(request)

    def receive(self) -> Response:
        """Wait for the next answer.

        Raises
        ------
        HeadError
            The head ended the stream before it answered.
        grpc.RpcError
            The call failed.
        """
        try:
            return next(self._answers)
        except StopIteration:
            raise HeadError("the head ended the stream before it answered") from None

    def ask(self, request: Request) -> Response:
        """Send one message and wait for its answer."""
        self.send(request)
        return self.receive()

    def _requests(self) -> Iterator[Request]:
        while (request := self._outbox.get()) is not None:
            yield request


@contextmanager
def connect(
    head: HeadConfig, model: ModelConfig, noise_multiplier: float = 0.0, node: int | None = None
) -> Iterator[SplitHeadStub]:
    """Open a channel to the head and check that it holds the other stage of this network.

    Messages are padded by `head.pad`. The head must train with a noise multiplier of at least `noise_multiplier`.
    Where clients train in a fixed order, the head knows this one by its Flower `node`.

    Raises
    ------
    HeadError
        Raised on opening and inside the body: mismatch, refusal, no connection, or a broken answer.
    """
    try:
        channel = open_channel(head.address, head.security)
    except (OSError, ValueError) as error:
        raise HeadError(f"head.security: {error}") from error
    try:
        padded = channel if head.pad is None else grpc.intercept_channel(channel, _Padding(head.pad))
        stub = SplitHeadStub(padded)
        if node is not None:
            stub.Train = partial(stub.Train, metadata=((NODE, str(node)),))  # type: ignore[assignment]
        _describe(stub, model, noise_multiplier)
        yield stub
    except grpc.RpcError as error:
        raise HeadError(f"head at {head.address}: {_reason(error)}") from error
    except WireError as error:
        raise HeadError(f"head at {head.address} sent a broken answer: {error}") from error
    finally:
        channel.close()


def exchange(
    stream: HeadStream[pb.TrainRequest, pb.TrainResponse], sequence: int, activation: Floats, labels: Labels
) -> tuple[Floats, float]:
    """Have the head take a step on one batch; return its mean loss's gradient by the activation, and that loss in nats.

    Raises
    ------
    HeadError, WireError, grpc.RpcError
        The head refused the batch, cannot be reached, or sent a gradient of the wrong shape.
    """
    request = pb.TrainRequest(sequence=sequence, activation=encode_tensor(activation), label=encode_tensor(labels))
    answer = stream.ask(request)
    check_sequence(answer.sequence, sequence)
    return floats(answer.activation_gradient, "activation_gradient", tuple(activation.shape)), answer.loss


def floats(tensor: pb.Tensor, field: str, shape: tuple[int, ...]) -> Floats:
    """Return an answer's tensor as float32 of a known shape, or raise WireError that names the field."""
    values = decode_tensor(tensor, field, shape=shape)
    if values.dtype.kind != "f":
        raise WireError(f"{field}.dtype", f"{values.dtype} where float32 is expected")
    # A copy, because torch needs writable memory.
    return values.astype(np.float32)


def check_sequence(answered: int, expected: int) -> None:
    """Raise HeadError where an answer is not that to the request that was sent."""
    if answered != expected:
        raise HeadError(f"sequence: the head answered {answered} where {expected} is expected")


class _Padding(grpc.StreamStreamClientInterceptor):  # type: ignore[type-arg]  # generic only in its stubs
    def __init__(self, pad: Pad) -> None:
        self._pad = pad

    def intercept_stream_stream(self, proceed: Callable[..., Any], call: Any, requests: Iterator[Any]) -> Any:
        return proceed(call, (pad_message(request, self._pad) for request in requests))


def _describe(stub: SplitHeadStub, model: ModelConfig, noise_multiplier: float) -> None:
    shape = model.network().activation_shape(model.cut)
    request = pb.DescribeRequest(model=model.public_name, cut=str(model.cut), activation_shape=shape)
    description = stub.Describe(request, timeout=DESCRIBE_SECONDS)
    if description.version != VERSION:
        raise HeadError(
            f"version: the head has protocol {description.version}, this device {VERSION}; install one version on both"
        )
    if description.classes != model.classes:
        raise HeadError(
            f"classes: the head has {description.classes}, this device expects {model.classes}; set one model for both"
        )
    if description.noise_multiplier < noise_multiplier:
        raise HeadError(
            f"privacy: the head trains with noise multiplier {description.noise_multiplier:g}, this device needs "
            f"{noise_multiplier:g}; set the server's privacy.noise_multiplier"
        )


def _reason(error: grpc.RpcError) -> str:
    details = " ".join((error.details() or "").split())
    code: grpc.StatusCode = error.code()
    return details if code is grpc.StatusCode.FAILED_PRECONDITION else f"{code.name}: {details}"
