"""Imprint: read the inputs from a first layer that a malicious server built to separate them."""

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
    """Read each bin's input: the difference of two neighbouring units' weights divided by that of their biases.

    The first global model must come from `adversary.initial.imprint`. An input that is the only one between two
    thresholds is rebuilt exactly. Several inputs in one bin give their weighted mean, and the update does not show the
    difference. The attack works on a client's update and on the sum over clients, so secure aggregation does not stop
    it: at the vantage "malicious-server" it reads only the global models. If inputs share bins, fewer inputs are found
    than there are, and the others are guessed as the mean of the attacker's own data.

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
        """Find the first layer; nothing is trained.

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
        """Return inputs (all updates' examples, *input_shape), update after update."""
        pieces, filled = [], []
        for update in updates:
            count, delta = self._recipe.behind(update.sender), update.delta
            rows = np.repeat(self._mean[None], count, axis=0)
            weights, biases = (np.nan_to_num(delta[f"{self._layer}.{part}"]) for part in ("weight", "bias"))
            found, bins = inputs_of_bins(weights, biases, self.settings.tolerance)
            # More bins than inputs: some hold only rounding errors, which are the smallest.
            sizes = np.abs(biases - np.append(biases[1:], 0))[bins]
            kept = np.sort(np.argsort(-sizes, kind="stable")[:count])
            rows[: len(kept)] = found[kept].reshape(-1, *self._mean.shape).clip(*self._range)
            pieces.append(rows)
            filled.append(len(kept) / count)
        self.report["filled"] = filled
        self.report["measured"] = {"bins-filled": float(np.mean(filled))}
        return np.concatenate(pieces).astype(np.float32)
