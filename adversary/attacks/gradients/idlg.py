"""Improved DLG: the labels are read off the last layer, the inputs alone are searched."""

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
    """Read the labels off the last layer's gradient, then search the inputs until their gradient is the captured one.

    The label of one example is the class whose row of the gradient has the least sum, which is exact where the last
    features are not negative; of several, see `labels_of`. The search is DLG's, with those labels.

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
