"""White box with a generative prior: search the codes of an autoencoder that explain a captured activation."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from adversary.attacks.activations.reconstruction.rmle import Rmle
from adversary.attacks.activations.reconstruction.search import SearchOptions
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage


class RmlePriorOptions(SearchOptions):
    """Settings of `RmleWithPrior`; they rule the search of codes as they rule that of inputs."""

    prior: Literal["none", "autoencoder"] = Field(
        "autoencoder", description="The prior on inputs, learnt from the surrogate data; none is the attack rmle."
    )
    prior_steps: int = Field(1500, ge=1, le=100_000, description="Training steps of the autoencoder.")
    codes: int = Field(32, ge=1, le=1024, description="Length of the autoencoder's codes.")
    learning_rate: float = Field(0.05, gt=0, description="Adam's first step size.")
    tv: float = Field(0.0, ge=0, description="Weight of the codes' total variation; codes have none.")
    l2: float = Field(1e-3, ge=0, description="Weight of the mean square of the codes.")


@register
class RmleWithPrior(Rmle):
    """Search for the code that, once decoded, explains a captured activation best.

    The decoder is that of a variational autoencoder, trained on surrogate data. The search is that of `rmle`, through
    decoder and encoder together, over codes in three standard deviations instead of inputs. The guess never leaves what
    the autoencoder can show, so a wide cut, which keeps all information, is inverted better by `rmle`.

    References
    ----------
    He, Zhang, Lee, "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019, section 4 (rMLE).
    Bora, Jalal, Price, Dimakis, "Compressed Sensing using Generative Models", ICML 2017 (search of codes).
    """

    name = "rmle-prior"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER),
        sees=("activation",),
        knows=(Knows.ARCHITECTURE, Knows.WEIGHTS, Knows.SURROGATE),
    )
    options = RmlePriorOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Load the encoder, and train the autoencoder on the attacker's own inputs."""
        super().fit(knowledge)
        from adversary.attacks.harness.prior import prior_of

        self._decoder: Any
        self._decoder, found = prior_of(self.settings, knowledge, self._range, self.seed)
        self.report |= found

    def guess(self, activations: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from activations (n, *activation_shape)."""
        if self._decoder is None:
            return super().guess(activations)
        import torch
        from torch import nn

        low, high = self._range

        class Scale(nn.Module):
            def forward(self, u: Any) -> Any:
                return (low + high) / 2 + u * (high - low) / 2

        chain = nn.Sequential(self._decoder, Scale(), self._encoder)
        codes = self.search(chain, activations, (self.settings.codes,), (-3.0, 3.0))
        with torch.no_grad():
            shown = chain[:2].cpu()(torch.from_numpy(codes))
        return np.asarray(shown.numpy(), np.float32)
