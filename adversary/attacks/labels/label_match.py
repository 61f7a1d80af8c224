"""Label match: find the label for which the head would have sent the captured gradient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.gradient_attack import GradientAttack
from adversary.attacks.harness.gradients import Gradients, gradients
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.label import Label

_CHUNK = 256


class LabelMatchOptions(BaseModel):
    """Settings of `LabelMatch`."""

    model_config = ConfigDict(extra="forbid")
    sharpness: float = Field(
        5.0, gt=0, description="Factor that turns cosines into probabilities; it does not change the guessed label."
    )


@register
class LabelMatch(GradientAttack):
    """Find each training example's label by computing the gradient that the head would send for every label.

    The attacker knows the head after training, for example from its release. For each captured activation and each
    label it computes the gradient of the cross-entropy by the activation. It guesses the label whose gradient has the
    direction nearest to the captured one. An earlier head made the gradient, so lengths say little and the attack
    compares cosines (the authors compare squared distances, with a clone of the head). It is exact at the last step,
    and less accurate at earlier steps.

    In this protocol labels cross the same link and could be read there; the attack does not read them.

    References
    ----------
    Erdoğan, Küpçü, Çiçek, "UnSplit: Data-Oblivious Model Inversion, Model Stealing, and Label Inference Attacks
    Against Split Learning", WPES 2022, label inference.
    """

    name = "label-match"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.PARTICIPANT),
        sees=("activation", "activation-gradient"),
        knows=(Knows.ARCHITECTURE, Knows.HEAD),
    )
    target = Label
    options = LabelMatchOptions

    def read(self, paths: Sequence[Path], count: int) -> Gradients:
        """Read the gradients with their activations."""
        return gradients(paths, count, activations=True)

    def fit(self, knowledge: Knowledge) -> None:
        """Load the head; nothing is trained."""
        from wireleak.common.models import load_weights

        network, model, path = knowledge.network(), knowledge.model, knowledge.head
        if model is None or path is None:
            raise ValueError("granted.head: label-match needs the head's weights; grant them, or use label-cosine")
        _, self._head = network.split(model.cut)
        load_weights(self._head, path)
        self._sent, self._classes = network.activation_shape(model.cut), model.classes

    def guess(self, gradients: Gradients) -> Array:
        """Return probabilities (n, classes) of the gradients' labels."""
        import torch
        from torch.nn.functional import cosine_similarity, cross_entropy

        from adversary.attacks.harness.device import best_device

        assert gradients.activations is not None
        floats = gradients.values.shape[1]
        if floats != np.prod(self._sent):
            raise ValueError(
                f"model.cut: the head takes {self._sent}, but {floats} floats were captured; grant the head of that cut"
            )
        device = best_device()
        head = self._head.to(device).eval().requires_grad_(False)
        pieces = []
        for at in range(0, len(gradients), _CHUNK):
            captured = torch.from_numpy(gradients.values[at : at + _CHUNK]).to(device)
            sent = torch.from_numpy(gradients.activations[at : at + _CHUNK]).to(device)
            z = sent.reshape(-1, *self._sent).clone().requires_grad_()
            answer = head(z)
            likeness = []
            for label in range(self._classes):
                loss = cross_entropy(answer, answer.new_full((len(z),), label, dtype=torch.int64), reduction="sum")
                (candidate,) = torch.autograd.grad(loss, z, retain_graph=True)
                likeness.append(cosine_similarity(candidate.flatten(1), captured))
            pieces.append((self.settings.sharpness * torch.stack(likeness, 1)).softmax(1).cpu().numpy())
        guesses: Array = np.concatenate(pieces)
        return guesses
