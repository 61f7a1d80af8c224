"""Improved DLG: read the labels from the last layer, and search only the inputs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adversary.attacks.gradients.dlg import DlgOptions, search
from adversary.attacks.gradients.gradient_matching import GradientMatching, Victim
from adversary.attacks.harness.knowledge import Array
from adversary.attacks.harness.registry import register


class IdlgOptions(DlgOptions):
    """Settings of `Idlg`."""

    labels: Literal["weights", "biases"] = Field(
        "weights", description="Gradients of the last layer from which labels are read; biases work for any features."
    )


@register
class Idlg(GradientMatching):
    """Read the labels from the last layer's gradient, then search inputs until their gradient equals the captured one.

    The label of one example is the class whose row of the gradient has the least sum. This is exact if no feature of
    the last layer is negative; for several examples see `labels_of`. The search is DLG's, with those labels.

    References
    ----------
    Zhao, Mopuri, Bilen, "iDLG: Improved Deep Leakage from Gradients", 2020.
    """

    name = "idlg"
    options = IdlgOptions

    def invert(self, one: Victim) -> tuple[Array, float]:
        """Rebuild the inputs of one update."""
        labels = one.labels(self.settings.labels)
        self.report.setdefault("labels", []).append(labels.tolist())
        return search(one, lambda _: (None, lambda: labels), self.settings, self.seed)
