"""Multidetasking: adversarial classification, in Coavoux et al.'s form ("flipped") and in the essays' ("minimax").

The discriminator D minimises CE(D(stopgrad r), z). Then the encoder minimises CE(task(r), y) + weight * L_adv, with
L_adv = CE(D(r), not z) in the form "flipped" and L_adv = -CE(D(r), z) in the form "minimax".
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from client.transforms.registry import Batch, Changes, register
from client.transforms.trained.in_loop import Adversarial, AdversaryOptions


class MultidetaskingOptions(AdversaryOptions):
    """Settings of `Multidetasking`."""

    form: Literal["flipped", "minimax"] = Field(
        "flipped", description="flipped: the adversary should predict another label; minimax: minus its loss."
    )
    weight: float = Field(
        1.0,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Weight of the adversary relative to the task; the authors' is 1.",
    )


@register
class Multidetasking(Adversarial):
    """Train the adversary first, then the encoder to mislead it, batch by batch.

    The flipped loss is bounded below, and its gradient is largest where the adversary is right. The minimax loss has no
    lower bound, and its gradient is smallest exactly there. "not z" is the uniform distribution over all other values.
    For two values it is the flipped label; for more it is the expectation of a random other label, without its
    variance. `gradient-reversal` is the minimax form with both steps at once.

    References
    ----------
    Coavoux, Narayan, Cohen, "Privacy-preserving Neural Representations of Text", EMNLP 2018, section 3.1 and its code.
    """

    name = "multidetasking"
    options = MultidetaskingOptions
    changes = Changes("trains its encoder to mislead an adversary that it trains too and that must know the attribute")
    # The adversary behind an example's loss has just been trained on the whole batch.
    batchwise = True
    settings: MultidetaskingOptions

    def loss(self, activation: Tensor, batch: Batch) -> Tensor:
        """Train the adversaries on the detached batch; return the encoder's loss against the updated adversaries."""
        self.learn(activation.detach(), batch)
        truth = batch.private[self.settings.attribute]
        losses = []
        for head in self.heads:
            # The encoder's loss must leave no gradient in the adversary.
            head.requires_grad_(False)
            answer = head(activation)
            head.requires_grad_(True)
            losses.append(
                cross_entropy(answer, others(truth, answer.shape[1]))
                if self.settings.form == "flipped"
                else -cross_entropy(answer, truth)
            )
        return self.settings.weight * torch.stack(losses).sum()


def others(labels: Tensor, values: int) -> Tensor:
    """Return probabilities (n, values): 0 for the label, equal for all other values."""
    return (1 - one_hot(labels, values).float()) / (values - 1)
