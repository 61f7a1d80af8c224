"""Imprint: read the inputs out of a first layer that a malicious server made to keep them apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.gradients.analytic import inputs_of_bins
from adversary.attacks.gradients.first_layer import first_linear
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.training import Update
from adversary.attacks.harness.update_attack import UpdateAttack
from wireleak.common.targets.input import Input


class ImprintOptions(BaseModel):
    """Settings of `Imprint`."""

    model_config = ConfigDict(extra="forbid")
    tolerance: float = Field(
        1e-4, gt=0, lt=1, description="A bin counts as empty if its gradient is below this share of the largest."
    )


@register
class Imprint(UpdateAttack):
    """Read each bin's input as the difference of two neighbouring units' weights by that of their biases.

    Needs a first global model made by `adversary.initial.imprint`. An input that is alone between two thresholds comes
    back exactly, of several in one bin their weighted mean, which nothing in the update tells from an input. It works
    on a client's update and on the sum over clients, so secure aggregation does not stop it: at the vantage
    "malicious-server" it reads the global models alone. Where bins are shared, fewer inputs are found than there are,
    and the rest are guessed as the mean of the attacker's own data.

    References
    ----------
    Fowl, Geiping, Czaja, Goldblum, Goldstein, "Robbing the Fed", ICLR 2022.
    """

    name = "imprint"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER, Vantage.MALICIOUS_SERVER),
        sees=("model-update", "global-model"),
        knows=(Knows.ARCHITECTURE, Knows.SURROGATE),
    )
    target = Input
    options = ImprintOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Find the first layer; there is nothing to learn.

        Raises
        ------
        ValueError
            The network does not begin with a linear layer.
        """
        _, self._recipe = knowledge.trained()
        self._layer = first_linear(knowledge.network())
        self._range = knowledge.input_range
        self._mean = knowledge.without_copies().inputs.mean(0)

    def guess(self, updates: Sequence[Update]) -> Array:
        """Inputs (all updates' examples, *input_shape), update after update."""
        pieces, filled = [], []
        for update in updates:
            count, delta = self._recipe.behind(update.sender), update.delta
            rows = np.repeat(self._mean[None], count, axis=0)
            weights, biases = (np.nan_to_num(delta[f"{self._layer}.{part}"]) for part in ("weight", "bias"))
            found, bins = inputs_of_bins(weights, biases, self.settings.tolerance)
            # More than there can be: rounding filled some, and fills them least.
            sizes = np.abs(biases - np.append(biases[1:], 0))[bins]
            kept = np.sort(np.argsort(-sizes, kind="stable")[:count])
            rows[: len(kept)] = found[kept].reshape(-1, *self._mean.shape).clip(*self._range)
            pieces.append(rows)
            filled.append(len(kept) / count)
        self.report["filled"] = filled
        self.report["measured"] = {"bins-filled": float(np.mean(filled))}
        return np.concatenate(pieces).astype(np.float32)
