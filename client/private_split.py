"""Private split training: DP-SGD of the encoder with the head's gradients, while the head trains by DP-SGD too."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from client.examples import Floats, Labels
from wireleak.common.head.encoder import Before, Loss, Send, as_it_is, unchanged
from wireleak.common.head.link import HeadStream, exchange
from wireleak.common.measures.bounds.accounting import epsilon, joint_noise_multiplier
from wireleak.common.models.private import PrivateSteps, generators, refuse_unfit
from wireleak.common.models.training import Training
from wireleak.common.plan import PrivacyConfig
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub


def train_split_private(
    encoder: nn.Module,
    stub: SplitHeadStub,
    inputs: Floats,
    labels: Labels,
    how: Training,
    privacy: PrivacyConfig,
    *,
    rounds: int = 1,
    before: Before = unchanged,
    send: Send = as_it_is,
    loss: Loss | None = None,
    see: Callable[[Labels, Floats], None] | None = None,
) -> tuple[float, float]:
    """Train the encoder by DP-SGD against a head that trains by DP-SGD too.

    Each step draws every example with the same probability (Poisson sampling). Each row of the returned gradient
    belongs to one example. Each example's gradient of the encoder is clipped, and noise is added to their sum. The head
    does the same with its own gradients of the same sample. Together they are one Gaussian mechanism of noise
    multiplier s / sqrt(2), and epsilon is computed for that. If no example is drawn, the head gets an empty batch, and
    both take a step of only noise: a head that took no step would reveal that no example was drawn.

    The guarantee covers the weights of both, for each training example, if the head is honest. A head that mixes
    examples in the rows that it returns bypasses the clipping. Activations, gradients and labels are not protected on
    the wire. Sampling and noise follow from the seed and the shard: see `client.private.train_private`.

    Parameters
    ----------
    encoder : nn.Module
        The encoder, changed in place.
    inputs, labels : arrays of shapes (n, *input_shape) and (n,)
        The private shard.
    how : Training
        `batch` is the expected size of a step's sample; an epoch has ceil(n / batch) steps.
    privacy : PrivacyConfig
        The head's noise multiplier must not be lower.
    rounds : int
        Number of such rounds with this client, this one included: they compose.
    before, send, loss, see : callables
        As for `wireleak.common.head.encoder.train_split`; the `loss` of one example must depend only on that example.

    Returns
    -------
    loss : float
        Mean over all drawn examples, in nats, at the weights before their step.
    epsilon : float
        Epsilon of all rounds at `privacy.delta`; the unit is one training example.

    Raises
    ------
    ConfigError
        A layer makes per-example clipping invalid (BatchNorm), or Opacus cannot clip it.
    HeadError, WireError, grpc.RpcError
        As for `wireleak.common.head.encoder.train_split`.

    References
    ----------
    Abadi et al., "Deep Learning with Differential Privacy", CCS 2016; Vepakomma et al., "Split learning for health",
    2018.
    """
    encoder.train()
    refuse_unfit(encoder)
    with torch.no_grad():
        empty = encoder(torch.from_numpy(inputs[:1]))[:0].numpy()
    an_epoch = -(-len(inputs) // how.plan.batch)
    sampling, noise = generators(how, inputs, labels)
    steps = PrivateSteps(encoder, privacy, how.plan.learning_rate, len(inputs) / an_epoch, noise)
    total, seen = 0.0, 0
    with HeadStream(stub.Train) as stream:
        for number, rows in enumerate(_samples(len(inputs), an_epoch, how.plan.epochs, sampling)):
            if not len(rows):
                exchange(stream, number, empty, labels[rows])
                steps.step_without_examples()
                continue
            batch = torch.from_numpy(inputs[rows])
            activation = steps.forward(before(batch))
            gradient, mean = exchange(stream, number, send(activation.detach(), batch).numpy(), labels[rows])
            if see is not None:
                see(labels[rows], gradient)
            wanted = torch.from_numpy(gradient) + _own_gradient(loss, activation, rows, number)
            # Both are gradients of means over the batch; a row times the batch size is the gradient of that example.
            steps.backward(activation, wanted * len(rows))
            steps.step()
            total, seen = total + mean * len(rows), seen + len(rows)
    steps.close()
    joint = joint_noise_multiplier(privacy.noise_multiplier, privacy.noise_multiplier)
    return total / max(seen, 1), epsilon(joint, 1 / an_epoch, rounds * how.plan.epochs * an_epoch, privacy.delta)


def _samples(count: int, an_epoch: int, epochs: int, generator: torch.Generator) -> Iterator[np.ndarray]:
    """Yield the rows of each step, which may be empty."""
    from opacus.utils.uniform_sampler import UniformWithReplacementSampler

    drawn = UniformWithReplacementSampler(
        num_samples=count, sample_rate=1 / an_epoch, steps=epochs * an_epoch, generator=generator
    )
    for rows in drawn:
        yield np.array(rows, np.int64)


def _own_gradient(loss: Loss | None, activation: torch.Tensor, rows: np.ndarray, number: int) -> torch.Tensor | float:
    """Return the gradient by the activation of the transforms' loss."""
    if loss is None:
        return 0.0
    leaf = activation.detach().requires_grad_()
    value = loss(leaf, rows, number)
    return 0.0 if value is None else torch.autograd.grad(value, leaf, materialize_grads=True)[0]
