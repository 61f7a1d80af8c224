"""The gRPC service `SplitHead`: messages are checked here, and computed with by the stage behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import grpc
import numpy as np
import numpy.typing as npt

from wireleak.common.wire import VERSION, WireError, decode_labels, decode_tensor, encode_tensor
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.padding import Pad, pad_message
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadServicer
from wireleak.common.wire.turns import NODE, LateError, Turns

Floats = npt.NDArray[np.float32]


class OverflowedError(ArithmeticError):
    """Finite activations led to infinite or undefined results; nothing was changed."""


class Served(Protocol):
    """The facts about its model that a stage gives."""

    @property
    def public_name(self) -> str: ...  # noqa: D102
    @property
    def cut(self) -> int: ...  # noqa: D102
    @property
    def classes(self) -> int: ...  # noqa: D102


class Stage(Protocol):
    """The computation behind the service: an honest head, or an attacker in its place."""

    @property
    def model(self) -> Served: ...  # noqa: D102
    @property
    def activation_shape(self) -> tuple[int, ...]: ...  # noqa: D102

    def predict(self, activation: Floats) -> Floats:
        """Class probabilities (batch, classes); OverflowedError where they are not finite."""
        ...

    def step(self, activation: Floats, label: npt.NDArray[np.int64]) -> tuple[Floats, float]:
        """Gradient of the activation's shape, and a loss in nats; OverflowedError where they are not finite."""
        ...


class SplitHead(SplitHeadServicer):
    """Answers devices and training clients.

    Parameters
    ----------
    stage : Stage
        The head.
    max_batch : int
        The most examples in one message.
    trains : bool
        Whether `Train` is open; in federated mode the head only serves predictions.
    pad : int, "powers" or None
        How answers are padded, see `wireleak.common.wire.padding`.
    noise_multiplier : float
        Above 0 where the stage trains by DP-SGD; then it also takes steps on batches of no example.

    Attributes
    ----------
    turns : Turns
        The order in which clients take steps.
    """

    def __init__(
        self, stage: Stage, max_batch: int, *, trains: bool, pad: Pad = None, noise_multiplier: float = 0.0
    ) -> None:
        self._stage = stage
        self._max_batch = max_batch
        self._trains = trains
        self._pad = pad
        self._noise_multiplier = noise_multiplier
        self.turns = Turns()

    def Describe(self, request: pb.DescribeRequest, context: grpc.ServicerContext) -> pb.Description:  # noqa: N802
        """Describe the model that the head serves; FAILED_PRECONDITION if the device asks for another."""
        model = self._stage.model
        shape = self._stage.activation_shape
        serves = f"the head serves cut {model.cut} of {model.public_name}"
        if request.model.rpartition("/")[2] == model.public_name != request.model:
            # Older manifests name the file of a network with its folder, which no longer crosses a wire.
            older = "this device's encoder was exported by an older wireleak, which called it by its file's whole path"
            _refuse(context, f"model: {older}; export it again with wireleak export")
        if request.model and request.model != model.public_name:
            _refuse(context, f"model: {serves}; this device asked for {request.model}")
        if request.cut and request.cut != str(model.cut):
            _refuse(context, f"cut: {serves}; this device asked for cut {request.cut}")
        if request.activation_shape and tuple(request.activation_shape) != shape:
            asked = list(request.activation_shape[:8])
            _refuse(context, f"activation_shape: {serves}, {list(shape)}; this device asked for {asked}")
        return pb.Description(
            model=model.public_name,
            cut=str(model.cut),
            activation_shape=shape,
            dtype=pb.DTYPE_FLOAT32,
            classes=model.classes,
            version=VERSION,
            max_batch=self._max_batch,
            noise_multiplier=self._noise_multiplier,
        )

    def Predict(  # noqa: N802
        self, request_iterator: Iterator[pb.PredictRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.PredictResponse]:
        """Turn each activation into class probabilities, in order."""
        for sequence, request in enumerate(request_iterator):
            with _refused(context):
                _check_sequence(request.sequence, sequence)
                prediction = self._stage.predict(self._activation(request.activation))
            yield pad_message(pb.PredictResponse(sequence=sequence, prediction=encode_tensor(prediction)), self._pad)

    def Train(  # noqa: N802
        self, request_iterator: Iterator[pb.TrainRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.TrainResponse]:
        """Take one optimiser step for each batch and return its activation gradient, in order."""
        if not self._trains:
            _refuse(context, "mode: this head only serves predictions, because it was trained in federated mode")
        node = str(dict(context.invocation_metadata()).get(NODE, ""))
        with self.turns.stream(node):
            for sequence, request in enumerate(request_iterator):
                with _refused(context):
                    _check_sequence(request.sequence, sequence)
                    activation = self._activation(request.activation, empty=self._noise_multiplier > 0)
                    label = decode_labels(request.label, len(activation), self._stage.model.classes)
                    with self.turns.turn(node):
                        gradient, loss = self._stage.step(activation, label.copy())
                answer = pb.TrainResponse(sequence=sequence, activation_gradient=encode_tensor(gradient), loss=loss)
                yield pad_message(answer, self._pad)

    def _activation(self, tensor: pb.Tensor, empty: bool = False) -> Floats:
        batch = tensor.shape[0] if tensor.shape else None
        if batch == 0 and not empty:
            raise WireError("activation.shape", "the batch is empty; send at least one example")
        if batch is not None and batch > self._max_batch:
            raise WireError("activation.shape", f"a batch of {batch} is over the head's limit of {self._max_batch}")
        values = decode_tensor(tensor, "activation", shape=(None, *self._stage.activation_shape))
        if values.dtype.kind != "f":
            raise WireError("activation.dtype", f"{values.dtype} where float32 or float16 is expected")
        # Always a copy: torch needs memory that it may write to.
        return values.astype(np.float32)


def _check_sequence(got: int, expected: int) -> None:
    if got != expected:
        raise WireError("sequence", f"{got} where {expected} is expected")


@contextmanager
def _refused(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except WireError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except OverflowedError:
        context.abort(
            grpc.StatusCode.INVALID_ARGUMENT, "activation.data: the values are so large that the head overflows"
        )
    except LateError as error:
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(error))


def _refuse(context: grpc.ServicerContext, reason: str) -> None:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, reason)
