"""The link to the head: `Describe`, then one stream; a lost link is told from a refusal."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from client.device.model.errors import DeviceError, HeadAwayError
from client.device.model.manifest import Manifest
from client.device.streaming.outbox import Message
from wireleak.common.wire import VERSION, Security, WireError, decode_tensor, open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.padding import pad_message
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub
from wireleak.common.words import told

# Trying again changes nothing after these.
_REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)
_FIRST_DELAY, _LONGEST_DELAY = 0.25, 15.0


class LinkLostError(Exception):
    """The link broke or cannot be opened; it may come back."""


class Link:
    """A link that is opened again after a loss, later and later, as long as there is patience.

    Parameters
    ----------
    address : str
        The head's host:port.
    security : Security
    manifest : Manifest
    batch : int
        Inputs in one message.
    patience : float
        Seconds from a loss, without any answer, after which the head counts as away.
    timeout : float
        Seconds after which an answer counts as lost.
    say : callable
        Takes a line for the user about the link.

    Raises
    ------
    DeviceError
        The credentials cannot be used.
    """

    def __init__(
        self,
        address: str,
        security: Security,
        manifest: Manifest,
        batch: int,
        patience: float,
        timeout: float,
        say: Callable[[str], None],
    ) -> None:
        self.address = address
        self._security = security
        self._manifest = manifest
        self._batch = batch
        self._patience = patience
        self._timeout = timeout
        self._say = say
        self._delay = _FIRST_DELAY
        self._lost: float | None = None
        self._met = False

    def heard(self) -> None:
        """Note that the head answered."""
        self._lost = None
        self._delay = _FIRST_DELAY

    def open(self) -> Stream:
        """Open a channel, check the head's description, and return a stream.

        Raises
        ------
        LinkLostError
            The head cannot be reached now.
        DeviceError
            The head does not fit this encoder, or refuses this device.
        """
        try:
            channel = open_channel(self.address, self._security)
        except (OSError, ValueError) as error:
            raise DeviceError(f"--ca, --certificate, --key: {told(error)}") from error
        try:
            stub = SplitHeadStub(channel)
            _check(stub, self._manifest, self._batch, self._timeout)
            self._met = True
            return Stream(channel, stub, self._manifest, self._timeout)
        except grpc.RpcError as error:
            channel.close()
            raise self.failure(error) from error
        except BaseException:
            channel.close()
            raise

    def wait(self, loss: LinkLostError) -> None:
        """Wait before the link is opened again.

        Raises
        ------
        HeadAwayError
            There is no patience left.
        """
        now = time.monotonic()
        self._lost = now if self._lost is None else self._lost
        left = self._patience - (now - self._lost)
        if left <= 0:
            hint = "" if self._met else "; check --head, and for TLS --ca, --certificate and --key"
            raise HeadAwayError(f"head at {self.address} is away: {loss}{hint}")
        self._say(f"head at {self.address} is away ({loss}); trying again in {self._delay:g} s")
        time.sleep(min(self._delay, left))
        self._delay = min(2 * self._delay, _LONGEST_DELAY)

    def failure(self, error: grpc.RpcError) -> Exception:
        """Return the loss or the refusal that an error of gRPC means."""
        code: grpc.StatusCode = error.code()
        details = " ".join((error.details() or "").split())
        # gRPC nests the reason: "failed to connect to all addresses; last error: UNAVAILABLE: the reason".
        details = (details.partition("last error: ")[2] or details).removeprefix(f"{code.name}: ")
        if code in _REFUSALS:
            return DeviceError(f"head at {self.address}: {details or code.name}")
        return LinkLostError(f"{code.name}: {details}")


class Stream:
    """One `Predict` call. Use it as a context manager: on leaving, the call and its channel are closed."""

    def __init__(self, channel: grpc.Channel, stub: SplitHeadStub, manifest: Manifest, timeout: float) -> None:
        self._channel = channel
        self._manifest = manifest
        self._timeout = timeout
        self._sent, self._received = 0, 0
        self._requests: queue.SimpleQueue[pb.PredictRequest | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[pb.PredictResponse | Exception] = queue.SimpleQueue()
        self._call: Any = stub.Predict(iter(self._requests.get, None))
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._requests.put(None)
        if kind is None:
            # The head ends the call in order, so that it does not count this device as lost.
            try:
                self._answers.get(timeout=self._timeout)
            except queue.Empty:
                self._call.cancel()
        else:
            self._call.cancel()
        self._channel.close()

    def send(self, message: Message) -> int:
        """Send a message, and return its size in bytes."""
        tensor = pb.Tensor.FromString(message.tensor)
        request = pad_message(pb.PredictRequest(sequence=self._sent, activation=tensor), self._manifest.pad)
        self._requests.put(request)
        self._sent += 1
        return request.ByteSize()

    def receive(self, inputs: int) -> tuple[npt.NDArray[np.float32], int]:
        """Return the next answer: probabilities (inputs, classes), and its size in bytes.

        Raises
        ------
        LinkLostError
            No answer came in time, or the head ended the stream.
        grpc.RpcError
            The call failed.
        DeviceError
            The answer is broken.
        """
        try:
            answer = self._answers.get(timeout=self._timeout)
        except queue.Empty:
            raise LinkLostError(f"no answer in {self._timeout:g} s") from None
        if isinstance(answer, Exception):
            raise answer
        try:
            values = decode_tensor(answer.prediction, "prediction", shape=(inputs, len(self._manifest.classes)))
            if answer.sequence != self._received or values.dtype.kind != "f":
                raise WireError("sequence", f"{answer.sequence} where {self._received} is expected")
        except WireError as error:
            raise DeviceError(f"the head sent a broken answer: {error}") from error
        self._received += 1
        return values.astype(np.float32), answer.ByteSize()

    def _listen(self) -> None:
        try:
            for answer in self._call:
                self._answers.put(answer)
            self._answers.put(LinkLostError("the head ended the stream"))
        except grpc.RpcError as error:
            self._answers.put(error)
        except ValueError as error:  # the channel was closed under the call
            self._answers.put(LinkLostError(str(error)))


def _check(stub: SplitHeadStub, manifest: Manifest, batch: int, timeout: float) -> None:
    """Refuse a head that is not the other stage of this encoder."""
    asked = pb.DescribeRequest(model=manifest.model, cut=str(manifest.cut), activation_shape=manifest.activation_shape)
    told = stub.Describe(asked, timeout=timeout)
    for field, have, want in (
        ("version", told.version, VERSION),
        ("model", told.model, manifest.model),
        ("cut", told.cut, str(manifest.cut)),
        ("activation_shape", list(told.activation_shape), list(manifest.activation_shape)),
        ("classes", told.classes, len(manifest.classes)),
    ):
        if have != want:
            raise DeviceError(
                f"{field}: the head has {have}, this encoder needs {want}; export the encoder of the head's model"
            )
    if batch > told.max_batch:
        raise DeviceError(f"--batch: {batch} is over the head's limit; give {told.max_batch} or less")


def checked_address(text: str) -> str:
    """Return a head's host:port as given, or raise DeviceError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise DeviceError(f"--head: {text!r} is not an address; give host:port, such as 192.168.1.10:9092")
    return text
