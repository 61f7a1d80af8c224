"""The encoder stage: the blocks before the cut, trained and used with a head on the other side of the wire.

One recipe for honest clients and for malicious ones, which choose what they train on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wireleak.common.head.link import Floats, HeadStream, Labels, check_sequence, exchange, floats
from wireleak.common.models.training import Training
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub

# Enough messages to keep the link and the head busy, few enough to bound the memory of those that wait.
WINDOW = 8
EVALUATION_BATCH = 128


Before = Callable[[torch.Tensor], torch.Tensor]
Send = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Loss = Callable[[torch.Tensor, np.ndarray, int], torch.Tensor | None]


def unchanged(inputs: torch.Tensor) -> torch.Tensor:
    """Return the inputs themselves."""
    return inputs


def as_it_is(activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Return the encoder's output untransformed."""
    return activation


def train_split(
    encoder: nn.Module,
    stub: SplitHeadStub,
    inputs: Floats,
    labels: Labels,
    how: Training,
    *,
    before: Before = unchanged,
    send: Send = as_it_is,
    loss: Loss | None = None,
    own_step: Callable[[torch.Tensor], float] | None = None,
    see: Callable[[Labels, Floats], None] | None = None,
) -> float:
    """Train the encoder with the gradients that the head returns, one batch after another.

    Vepakomma et al. 2018, "Split learning for health", with labels shared.

    Parameters
    ----------
    encoder : nn.Module
        The encoder, changed in place.
    inputs, labels : arrays of shapes (n, *input_shape) and (n,)
        The private shard; its activations and labels are sent to the head.
    how : Training
    before : callable
        inputs -> what the encoder gets instead of them.
    send : callable
        (activation, inputs) -> the tensor to send instead of the activation. The returned gradient is applied to the
        original activation (straight-through).
    loss : callable, optional
        (activation, rows, number of earlier batches) -> a loss that the encoder minimises in addition, or None.
    own_step : callable, optional
        Trains the encoder on a batch of inputs; then the head's gradients are not used.
    see : callable, optional
        Called with the labels and the activation gradient of each batch.

    Returns
    -------
    float
        Mean loss over all examples, in nats.

    Raises
    ------
    HeadError, WireError, grpc.RpcError
        The head refused a batch, cannot be reached, or sent a gradient of the wrong shape.
    """
    frozen = how.plan.frozen_encoder
    optimiser = how.optimise(encoder)
    encoder.train(not frozen)
    total, seen = 0.0, 0
    with HeadStream(stub.Train) as stream:
        for sequence, rows in enumerate(how.batches(len(inputs))):
            batch = torch.from_numpy(inputs[rows])
            given = before(batch)
            with torch.set_grad_enabled(not frozen):
                activation = encoder(given)
            sent = send(activation.detach(), batch)
            gradient, mean = exchange(stream, sequence, sent.numpy(), labels[rows])
            if see is not None:
                see(labels[rows], gradient)
            if own_step is not None:
                own_step(given)
            elif not frozen:
                extra = loss(activation, rows, sequence) if loss is not None else None
                optimiser.zero_grad(set_to_none=True)
                wanted = (activation,) if extra is None else (activation, extra)
                torch.autograd.backward(wanted, (torch.from_numpy(gradient), None)[: len(wanted)])
                optimiser.step()
            total, seen = total + mean * len(rows), seen + len(rows)
    return total / seen


def predict_split(
    encoder: nn.Module,
    stub: SplitHeadStub,
    inputs: Floats,
    classes: int,
    batch: int,
    *,
    before: Before = unchanged,
    send: Send = as_it_is,
) -> Floats:
    """Return the head's class probabilities (n, classes), in the order of the inputs; see `train_split`.

    Raises
    ------
    HeadError, WireError, grpc.RpcError
        The head refused a batch, cannot be reached, or sent a prediction of the wrong shape.
    """
    predictions: list[Floats] = []
    pending: deque[int] = deque()
    encoder.eval()

    def take(stream: HeadStream[pb.PredictRequest, pb.PredictResponse]) -> None:
        answer = stream.receive()
        check_sequence(answer.sequence, len(predictions))
        predictions.append(floats(answer.prediction, "prediction", (pending.popleft(), classes)))

    with torch.inference_mode(), HeadStream(stub.Predict) as stream:
        for sequence, start in enumerate(range(0, len(inputs), batch)):
            if len(pending) == WINDOW:
                take(stream)
            part = torch.from_numpy(inputs[start : start + batch])
            activation = send(encoder(before(part)), part)
            stream.send(pb.PredictRequest(sequence=sequence, activation=encode_tensor(activation.numpy())))
            pending.append(len(activation))
        while pending:
            take(stream)
    return np.concatenate(predictions)


def predict_whole(network: nn.Module, inputs: Floats) -> Floats:
    """Return class probabilities (n, classes) of a whole network, computed on this device."""
    network.eval()
    with torch.inference_mode():
        parts = [network(part).softmax(dim=1) for part in torch.split(torch.from_numpy(inputs), EVALUATION_BATCH)]
    return torch.cat(parts).numpy()


def score(probabilities: Floats, labels: Labels) -> tuple[float, npt.NDArray[np.bool_]]:
    """Return mean cross-entropy, in nats, and for each example (n,) whether its class was named."""
    chosen = probabilities[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean()
    return float(loss), probabilities.argmax(axis=1) == labels
