"""Linear: ridge regression from activation to input, the cheapest reading of a wire."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input
from wireleak.common.targets.memory import Sizes
from wireleak.common.targets.ridge import ridge, ridge_memory


class LinearOptions(BaseModel):
    """Settings of `Linear`: none."""

    model_config = ConfigDict(extra="forbid")


@register
class Linear(ActivationAttack):
    """Rebuild inputs with a linear decoder. The attacker's held-out pairs choose its strength.

    It costs seconds where a trained decoder costs minutes, so it shows first where a wire leaks. Every attack on inputs
    has the same decoder among its readers ("ridge").

    References
    ----------
    Hoerl and Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal Problems", Technometrics 1970.
    """

    name = "linear"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER),
        sees=("activation",),
        knows=(Knows.SURROGATE, Knows.QUERIES),
    )
    target = Input
    options = LinearOptions
    same_as = "ridge"

    def memory(self, sizes: Sizes) -> int:
        """Estimate the memory of the fit."""
        return ridge_memory(sizes.pairs, int(np.prod(sizes.activation)), int(np.prod(sizes.image)))

    def fit(self, knowledge: Knowledge) -> None:
        """Fit the decoder on the attacker's pairs."""
        self._range = knowledge.input_range
        self._shape = knowledge.inputs.shape[1:]
        self._decoder = ridge(knowledge.seen, knowledge.inputs, knowledge.held_out())
        self.report |= {"strength": self._decoder.strength, "held_out_loss": self._decoder.error}
        self.report["validation_mse"] = self._decoder.error

    def guess(self, activations: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from activations (n, *activation_shape)."""
        guess = self._decoder.guess(activations).reshape(-1, *self._shape)
        return np.clip(guess, *self._range)
