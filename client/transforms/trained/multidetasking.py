"""Multidetasking: adversarial classification, as Coavoux et al. train it and as the essays write it.

The discriminator D steps down CE(D(stopgrad r), z); then the encoder steps down CE(task(r), y) + weight * L_adv, with
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
        "flipped", description="flipped: the adversary shall say another label; minimax: minus the adversary's loss."
    )
    weight: float = Field(
        1.0, ge=0, le=100, allow_inf_nan=False, description="Of the adversary beside the task; the authors' is 1."
    )


@register
class Multidetasking(Adversarial):
    """Train the adversary first, then the encoder to mislead it, batch by batch.

    The flipped loss is bounded below and its gradient is largest where the adversary is right. The minimax loss has no
    lower bound, and its gradient is smallest exactly there. With more than two values "not z" is the uniform
    distribution over all the others: for two it is the flipped label, and for more the expectation of a random other
    label, without its variance. `gradient-reversal` is the minimax form with both steps taken at once.

    References
    ----------
    Coavoux, Narayan, Cohen, "Privacy-preserving Neural Representations of Text", EMNLP 2018, section 3.1 and its code.
    """

    name = "multidetasking"
    options = MultidetaskingOptions
    changes = Changes("trains its encoder to mislead an adversary that it trains too and that must know the attribute")
    # The adversary that an example's loss comes from has just learnt from the whole batch.
    batchwise = True
    settings: MultidetaskingOptions

    def loss(self, activation: Tensor, batch: Batch) -> Tensor:
        """Train the adversaries on the detached batch; return the encoder's loss against what they then are."""
        self.learn(activation.detach(), batch)
        truth = batch.private[self.settings.attribute]
        losses = []
        for head in self.heads:
            # The encoder's loss leaves no gradient in the adversary.
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
    """Return probabilities (n, values): 0 for the label, the same for each other value."""
    return (1 - one_hot(labels, values).float()) / (values - 1)
