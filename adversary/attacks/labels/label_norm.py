"""Label norm: find the examples of the rarer class by the length of their gradients."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.gradient_attack import GradientAttack
from adversary.attacks.harness.gradients import Gradients
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.labels.windows import frequencies, windows
from wireleak.common.targets.label import Label


class LabelNormOptions(BaseModel):
    """Settings of `LabelNorm`."""

    model_config = ConfigDict(extra="forbid")
    window: int = Field(
        256, ge=2, description="Number of gradients that are ranked together; lengths shrink during training."
    )


@register
class LabelNorm(GradientAttack):
    """Find the training examples of the rarer class by the lengths of their activation gradients.

    The gradient of the cross-entropy is (p - y) times the head's own derivative. A network that has seen few positives
    is unsure of them: |p - y| is near 1 for a positive and near 0 for a negative, so long gradients are positives.
    Within a window, the longest gradients are guessed to be of the rarer class, in the proportion of its frequency. The
    attack needs two classes, and without imbalance it is expected to fail.

    The attack uses only the classes' frequencies of the surrogate. In this protocol labels cross the same link and
    could be read there; the attack does not read them, as in services where the labels stay with the head.

    References
    ----------
    Li, Sun, Yang, Gao, Zhang, Xie, Smith, Wang, "Label Leakage and Protection in Two-party Split Learning",
    ICLR 2022, the norm attack.
    """

    name = "label-norm"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.PARTICIPANT),
        sees=("activation-gradient",),
        knows=(Knows.SURROGATE,),
    )
    target = Label
    options = LabelNormOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Note the classes' frequencies."""
        share = frequencies(knowledge)
        if len(share) != 2:
            raise ValueError(f"attack: label-norm needs a task with 2 classes, not {len(share)}; use label-cosine")
        self._rarer, self._share = int(share.argmin()), float(np.clip(share.min(), 1e-6, 0.5))
        self.report |= {"rarer_class": self._rarer, "share": self._share}

    def guess(self, gradients: Gradients) -> Array:
        """Return probabilities (n, 2) of the labels: one half at the rank of the expected number of rare examples."""
        length = np.linalg.norm(gradients.values, axis=1)
        rank = np.zeros(len(gradients))
        for rows, fresh in windows(gradients.times, self.settings.window):
            order = (length[rows].argsort().argsort() + 0.5) / len(rows)
            rank[rows[fresh]] = order[fresh]
        limit = 1 - self._share
        rarer = np.where(rank > limit, 0.5 + 0.5 * (rank - limit) / self._share, 0.5 * rank / limit)
        guess = np.stack([1 - rarer, rarer] if self._rarer else [rarer, 1 - rarer], 1)
        return guess.astype(np.float32)
