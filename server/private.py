"""The head trained with DP-SGD, which bounds the influence of each example on its weights."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from server.stage import HeadStage
from wireleak.common.models import ModelConfig
from wireleak.common.models.private import PrivateSteps, refuse_unfit
from wireleak.common.plan import TrainingPlan
from wireleak.common.wire.service import Floats, OverflowedError


class PrivateHeadStage(HeadStage):
    """The blocks behind the cut; a step clips each example's gradient and adds noise to the sum.

    The guarantee holds only with clients that sample each example with the same probability in every step
    (`client.private_split`) and train their encoder the same way. The clients account for epsilon. The guarantee covers
    the head's weights; activation gradients return without noise, one row per example.

    The noise is drawn from the seed and the initial weights. A study can be repeated, and a head that restarts in a
    later round does not repeat its noise. Anyone who knows the seed can subtract the noise: a real deployment needs a
    secure generator.

    Parameters
    ----------
    model : ModelConfig
    plan : TrainingPlan
        `privacy` says how steps are noised; `batch` is the expected number of examples in a step.
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

    def __init__(self, model: ModelConfig, plan: TrainingPlan, seed: int) -> None:
        self._plan = plan
        self._seed = seed
        super().__init__(model, plan.head_rate)

    def step(self, activation: Floats, label: npt.NDArray[np.int64]) -> tuple[Floats, float]:
        """Take one noised step on one batch; an empty batch gives a step of pure noise.

        Parameters, results and errors are those of `HeadStage.step`; the loss of an empty batch is 0.
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
            # One client's huge but finite numbers would turn the shared weights into NaN.
            if not all(torch.isfinite(gradient).all() for gradient in (inputs.grad, *self._steps.gradients())):
                raise OverflowedError
            self._steps.step()
        return (inputs.grad / len(label)).numpy(), loss.item() / len(label)

    def _adopt(self, head: nn.Sequential) -> None:
        refuse_unfit(head)
        privacy = self._plan.privacy
        assert privacy is not None, "a private head needs plan.privacy"
        generator = torch.Generator().manual_seed(_noise_seed(self._seed, head))
        steps = PrivateSteps(head, privacy, self.learning_rate, self._plan.batch, generator)
        with self._lock:
            self.head, self._steps = head, steps


def _noise_seed(seed: int, head: nn.Module) -> int:
    told = hashlib.sha256(f"head {seed}".encode())
    for value in head.state_dict().values():
        told.update(value.numpy().tobytes())
    return int.from_bytes(told.digest()[:7], "little")
