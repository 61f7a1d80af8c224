"""Analytic: recover the input of a network's first linear layer by dividing its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.gradients.analytic import input_of
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.training import Update
from adversary.attacks.harness.update_attack import UpdateAttack
from wireleak.common.targets.input import Input

if TYPE_CHECKING:
    # Importing the models imports torch, which would make listing the attacks slow.
    from wireleak.common.models.networks import Network

Doubles = npt.NDArray[np.float64]


class AnalyticOptions(BaseModel):
    """Settings of `Analytic`."""

    model_config = ConfigDict(extra="forbid")
    alike: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Two units agree on an input if they differ by less than this share of its length.",
    )
    least: float = Field(
        1e-3, gt=0, lt=1, description="Leave out units with less than this share of the largest bias gradient."
    )


@register
class Analytic(UpdateAttack):
    """Divide the first linear layer's weight gradients by its bias gradients, unit by unit.

    With one example, every quotient is exactly the input. With several, it is their weighted mean, with weights that
    differ between units, except for units whose ReLU let only one example through: those units agree. For a batch, the
    attack first takes the quotients on which most units agree, and fills the rest with the strongest unit's quotient.
    The network must begin with a linear layer on the flattened input.

    References
    ----------
    Phong et al., "Privacy-Preserving Deep Learning via Additively Homomorphic Encryption", TIFS 2018 (one example).
    Boenisch et al., "When the Curious Abandon Honesty: Federated Learning Is Not Private", EuroS&P 2023 (the passive
    leakage of ReLU units that one example activates).
    """

    name = "analytic"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER),
        sees=("model-update", "global-model"),
        knows=(Knows.ARCHITECTURE,),
    )
    target = Input
    options = AnalyticOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Find the first layer; nothing is trained.

        Raises
        ------
        ValueError
            The network does not begin with a linear layer.
        """
        _, self._recipe = knowledge.trained()
        network = knowledge.network()
        self._layer, self._shape = first_linear(network), network.input_shape
        self._range = knowledge.input_range

    def guess(self, updates: Sequence[Update]) -> Array:
        """Return inputs (all updates' examples, *input_shape), update after update."""
        pieces = []
        for update in updates:
            delta = update.delta
            weights, biases = (np.nan_to_num(delta[f"{self._layer}.{part}"]) for part in ("weight", "bias"))
            pieces.append(self._inputs(weights, biases, self._recipe.behind(update.sender)))
        found = np.concatenate(pieces).reshape(-1, *self._shape)
        return found.clip(*self._range).astype(np.float32)

    def _inputs(self, weights: Array, biases: Array, count: int) -> Doubles:
        strongest = input_of(weights, biases)
        if strongest is None:
            return np.full((count, weights.shape[1]), np.mean(self._range))
        found: list[Doubles] = []
        if count > 1:
            units = np.abs(biases) > self.settings.least * np.abs(biases).max()
            found = agreed(weights[units] / biases[units, None].astype(np.float64), self.settings.alike, count)
        self.report.setdefault("agreed", []).append(len(found))
        return np.stack(found + [strongest] * (count - len(found)))


def agreed(quotients: Doubles, alike: float, most: int) -> list[Doubles]:
    """Return up to `most` of the quotients (units, inputs) on which units agree, most frequent first.

    Two quotients agree if they differ by less than the share `alike` of their length.
    """
    square = (quotients**2).sum(1)
    apart = square[:, None] + square[None] - 2 * quotients @ quotients.T
    close = apart <= alike**2 * np.minimum(square[:, None], square[None])
    left = np.ones(len(quotients), bool)
    found: list[Doubles] = []
    while len(found) < most and (support := (close & left).sum(1) * left).max(initial=0) > 1:
        centre = int(support.argmax())
        found.append(quotients[close[centre] & left].mean(0))
        left &= ~close[centre]
    return found


def first_linear(network: Network) -> str:
    """Return the name of the linear layer to which a network's flattened input goes first.

    Raises
    ------
    ValueError
        Another layer with weights comes first.
    """
    from torch import nn

    for name, module in network.blocks.named_modules():
        if isinstance(module, nn.Linear) and module.in_features == np.prod(network.input_shape):
            return str(name)
        if module._parameters:
            break
    raise ValueError(
        f"model: {network.name} does not begin with a linear layer on its flattened input; choose a network that does, "
        "such as latents or imprint28, or the attack inverting-gradients"
    )
