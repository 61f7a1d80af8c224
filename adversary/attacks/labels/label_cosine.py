"""Label cosine: training labels from the directions of activation gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.gradient_attack import GradientAttack
from adversary.attacks.harness.gradients import Gradients, gradients
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.labels.windows import directions, frequencies, windows
from wireleak.common.targets.label import Label

_SHARPNESS = 5.0


class LabelCosineOptions(BaseModel):
    """Settings of `LabelCosine`."""

    model_config = ConfigDict(extra="forbid")
    window: int | None = Field(
        None, ge=2, description="Number of gradients that are clustered together; by default 64, or 100 per class."
    )
    known: int = Field(
        10, ge=0, description="Number of training examples whose label the attacker knows, to name the clusters."
    )


@register
class LabelCosine(GradientAttack):
    """Infer training labels from the directions of activation gradients, which depend on the labels.

    Two classes: the gradients of a window point along one line, each class in one direction; a row's side is the sign
    of its cosine with the window's first principal direction (of directions, not centred). More classes: k-means on
    directions. Windows follow one another in time, and each starts from the clusters of the window before, because the
    head changes slowly. A few examples with a known label name the clusters; where these do not decide, the frequencies
    of the task's classes do. The attack uses nothing else of the surrogate.

    In this protocol labels cross the same link and could be read there. The attack reads only the known ones, as in
    services where the labels stay with the head.

    References
    ----------
    Li, Sun, Yang, Gao, Zhang, Xie, Smith, Wang, "Label Leakage and Protection in Two-party Split Learning", ICLR 2022:
    the cosine attack, which compares with the gradient of one known positive example. The principal direction, which
    follows the head as it changes, and k-means for more than two classes are ours.
    """

    name = "label-cosine"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.PARTICIPANT),
        sees=("activation-gradient",),
        knows=(Knows.SURROGATE, Knows.LABELS),
    )
    target = Label
    options = LabelCosineOptions

    def read(self, paths: Sequence[Path], count: int) -> Gradients:
        """Read the gradients, and the known labels."""
        return gradients(paths, count, known=self.settings.known)

    def fit(self, knowledge: Knowledge) -> None:
        """Note the classes' frequencies."""
        self._share = frequencies(knowledge)

    def guess(self, gradients: Gradients) -> Array:
        """Return probabilities (n, classes) of the gradients' labels."""
        classes = len(self._share)
        window = self.settings.window or max(64, 100 * (classes if classes > 2 else 0))
        if len(gradients) < classes:
            return np.repeat(self._share[None], len(gradients), axis=0)
        likeness, before = np.zeros((len(gradients), classes), np.float32), None
        for rows, fresh in windows(gradients.times, max(window, classes)):
            pointing = directions(gradients.values[rows])
            before = _poles(pointing, before) if classes == 2 else _centres(pointing, before, classes, self.seed)
            likeness[rows[fresh]] = pointing[fresh] @ before.T
        named = likeness[:, _names(likeness.argmax(1), gradients.labels, self._share)]
        self.report |= {"window": window, "labels_known": int((gradients.labels >= 0).sum())}
        odds = np.exp(_SHARPNESS * (named - named.max(1, keepdims=True)))
        return np.asarray(odds / odds.sum(1, keepdims=True), np.float32)


def _names(cluster: npt.NDArray[np.int64], label: npt.NDArray[np.int64], share: Array) -> npt.NDArray[np.int64]:
    """Assign a cluster to each class: first by most known labels in agreement, then by nearest sizes."""
    from scipy.optimize import linear_sum_assignment

    classes = len(share)
    agree = np.zeros((classes, classes))
    known = (label >= 0) & (label < classes)
    np.add.at(agree, (label[known], cluster[known]), classes)
    sizes = np.bincount(cluster, minlength=classes) / len(cluster)
    _, clusters = linear_sum_assignment(agree - np.abs(share[:, None] - sizes), maximize=True)
    return np.asarray(clusters)


def _poles(pointing: Array, before: Array | None) -> Array:
    """Return the first principal direction of rows (n, floats) and its opposite, (2, floats), in `before`'s order."""
    _, vectors = np.linalg.eigh(pointing @ pointing.T)
    axis = directions((vectors[:, -1] @ pointing)[None])[0]
    if before is not None and axis @ before[0] < 0:
        axis = -axis
    return np.stack([axis, -axis])


def _centres(pointing: Array, before: Array | None, classes: int, seed: int) -> Array:
    """Return the centres (classes, floats), of length 1, of k-means that starts from the window before."""
    from sklearn.cluster import KMeans

    start: Any = "k-means++" if before is None else before
    found = KMeans(classes, init=start, n_init=10 if before is None else 1, random_state=seed).fit(pointing)
    return directions(found.cluster_centers_)
