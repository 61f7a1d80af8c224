"""Inverting Gradients with a generative prior: search the codes of an autoencoder before the pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from adversary.attacks.gradients.descent import Temperature
from adversary.attacks.gradients.inverting_gradients import InvertingGradients, InvertingOptions
from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage


class PriorOptions(InvertingOptions):
    """Settings of `InvertingWithPrior`."""

    prior: Literal["none", "autoencoder"] = Field(
        "autoencoder", description="The prior on inputs besides the total variation, learnt from the surrogate data."
    )
    prior_steps: int = Field(1500, ge=1, le=100_000, description="Training steps of the autoencoder.")
    codes: int = Field(32, ge=1, le=1024, description="Length of the autoencoder's codes.")
    code_steps: int = Field(300, ge=1, le=100_000, description="Steps of Adam on the codes.")
    code_weight: float = Field(1e-5, ge=0, description="Weight of the codes' mean square.")
    pixels: bool = Field(True, description="Search the pixels too, from the decoded codes.")


@register
class InvertingWithPrior(InvertingGradients):
    """Search the codes of an autoencoder, trained on surrogate data, then the pixels as in `InvertingGradients`.

    The codes are far fewer than the pixels, so that the search meets fewer local minima and cannot fit noise. It ends
    at the autoencoder's own error, so L-BFGS-B goes on from there with the pixels. What it finds is kept if it explains
    the gradient better, which it often does not with a noised gradient.

    References
    ----------
    Jeon, Kim, Lee, Oh, Ok, "Gradient Inversion with Generative Image Prior", NeurIPS 2021.
    """

    name = "inverting-gradients-prior"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER),
        sees=("model-update", "global-model"),
        knows=(Knows.ARCHITECTURE, Knows.SURROGATE),
    )
    options = PriorOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Train the autoencoder on the attacker's own inputs."""
        super().fit(knowledge)
        from adversary.attacks.harness.prior import prior_of

        self._decoder: Any
        self._decoder, found = prior_of(self.settings, knowledge, self._range, self.seed)
        self.report |= found

    def _search(self, distance: Callable[[Any], Any], temperature: Temperature, u: Any) -> Any:
        import torch

        if self._decoder is None:
            return super()._search(distance, temperature, u)
        decoder = self._decoder.double().to(u.device)
        codes = u.flatten(1)[:, : self.settings.codes].clone().requires_grad_()
        optimiser = torch.optim.Adam([codes], 0.1)
        decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, self.settings.code_steps)
        for step in range(self.settings.code_steps):
            temperature.value = self.settings.softness * 0.01 ** (step / self.settings.code_steps)
            objective = distance(decoder(codes)) + self.settings.code_weight * codes.square().mean()
            (codes.grad,) = torch.autograd.grad(objective, codes)
            optimiser.step()
            decay.step()
        return decoder(codes).detach()

    def _refine(self, distance: Callable[[Any], Any], temperature: Temperature, u: Any) -> Any:
        """Search the pixels too, and keep them if they explain the gradient better than the codes do."""
        if self._decoder is None:
            return super()._refine(distance, temperature, u)
        if not self.settings.pixels:
            return u
        finer = super()._refine(distance, temperature, u)
        temperature.value = 0.0
        return finer if distance(finer) < distance(u) else u
