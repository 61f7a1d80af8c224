"""The head trained by DP-SGD: no single example of a client's shows in its weights."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from server.config import HeadPrivacyConfig
from server.stage import HeadStage
from wireleak.common.models import ModelConfig
from wireleak.common.models.private import PrivateSteps, refuse_unfit
from wireleak.common.wire.service import Floats, OverflowedError


class PrivateHeadStage(HeadStage):
    """The blocks behind the cut, whose steps clip each example's gradient and add noise to their sum.

    Sound only together with clients that draw each of their examples with the same chance in every step, whether they
    draw any or not (`client.private_split`), and that do the same to their encoder; they keep the account. Covered are
    the head's weights: gradients go back as they are, each row of them an example's own.

    The noise follows from the seed and from the weights that training begins with, so that a study can be repeated and
    a head that starts again in a later round does not add the same noise twice: whoever knows the seed can take it
    away, and a head in earnest draws from a secure generator.

    Parameters
    ----------
    model : ModelConfig
    learning_rate : float
        SGD's or Adam's.
    privacy : HeadPrivacyConfig
    seed : int
        Of the noise.

    Raises
    ------
    ConfigError
        A layer of the head makes per-example clipping void (BatchNorm), or Opacus cannot clip it.

    References
    ----------
    Abadi et al., "Deep Learning with Differential Privacy", CCS 2016.
    """

    def __init__(self, model: ModelConfig, learning_rate: float, privacy: HeadPrivacyConfig, seed: int) -> None:
        self._privacy = privacy
        self._seed = seed
        super().__init__(model, learning_rate)

    def step(self, activation: Floats, label: npt.NDArray[np.int64]) -> tuple[Floats, float]:
        """Take one noised step on one batch; on one of no example a step of noise alone.

        Parameters, results and errors are those of `HeadStage.step`; the loss of no example is 0.
        """
        if not len(label):
            with self._lock:
                self._steps.step_without_examples()
            return activation, 0.0
        inputs = torch.from_numpy(activation).requires_grad_()
        with self._lock:
            self.head.train()
            loss = cross_entropy(self._steps.forward(inputs), torch.from_numpy(label), reduction="sum")
            self._steps.backward(loss)
            assert inputs.grad is not None
            # One customer's huge but finite numbers would turn everybody's weights into NaN.
            if not all(torch.isfinite(gradient).all() for gradient in (inputs.grad, *self._steps.gradients())):
                raise OverflowedError
            self._steps.step()
        return (inputs.grad / len(label)).numpy(), loss.item() / len(label)

    def _adopt(self, head: nn.Sequential) -> None:
        refuse_unfit(head)
        privacy = self._privacy
        generator = torch.Generator().manual_seed(_noise_seed(self._seed, head))
        steps = PrivateSteps(head, privacy, self.learning_rate, privacy.batch, generator)
        with self._lock:
            self.head, self._steps = head, steps


def _noise_seed(seed: int, head: nn.Module) -> int:
    told = hashlib.sha256(f"head {seed}".encode())
    for value in head.state_dict().values():
        told.update(value.numpy().tobytes())
    return int.from_bytes(told.digest()[:7], "little")
