"""No data, no queries, no weights: guess the inputs and the encoder together from activations alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import track

from adversary.attacks.knowledge import Array, Knowledge
from adversary.attacks.registry import Attack, register
from adversary.attacks.rmle import total_variation
from adversary.attacks.shadow import fresh_network
from adversary.attacks.threat import Knows, ThreatModel, Vantage


class UnsplitOptions(BaseModel):
    """Settings of `Unsplit`; the authors run 1000 x (100 + 100) steps for each image."""

    model_config = ConfigDict(extra="forbid")
    outer: int = Field(20, ge=1, le=100_000, description="Alternations.")
    inner_input: int = Field(50, ge=1, le=100_000, description="Steps on the inputs in each.")
    inner_model: int = Field(50, ge=1, le=100_000, description="Steps on the clone in each.")
    input_learning_rate: float = Field(1e-2, gt=0, le=1, description="Adam's step on inputs; the authors' is .001.")
    model_learning_rate: float = Field(1e-3, gt=0, le=1, description="Adam's step on the clone.")
    tv: float = Field(0.1, ge=0, description="Weight of the total variation.")
    l2: float = Field(1.0, ge=0, description="Weight of the mean square.")


@register
class Unsplit(Attack):
    """Rebuild the victims' inputs from the network's architecture alone, together with a clone of their encoder.

    Alternates steps on the inputs (`mean (g(x) - z)^2 + tv TV(x) + l2 mean x^2`, from grey) and on the clone g
    (`mean (g(x) - z)^2`), both by Adam with AMSGrad, inputs scaled to [0, 1] and clipped at the end. All that was
    captured is attacked at once, against one clone; the authors attack one image after another with a clone that they
    do not reset. The steps are far fewer than theirs and those on inputs larger, to be affordable.

    References
    ----------
    Erdoğan, Küpçü, Çiçek, "UnSplit: Data-Oblivious Model Inversion, Model Stealing, and Label Inference Attacks
    Against Split Learning", WPES 2022.
    """

    name = "unsplit"
    threat = ThreatModel(vantage=(Vantage.SERVER,), sees=("activation",), knows=(Knows.ARCHITECTURE,))
    targets = "input"
    options = UnsplitOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Draw the clone's weights; all else needs the victims' activations."""
        network, cut = fresh_network(knowledge, self.seed)
        self._clone, _ = network.split(cut)
        self._shape, self._range, self._sent = network.input_shape, knowledge.input_range, network.activation_shape(cut)

    def guess(self, seen: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from activations (n, *activation_shape), all rows together."""
        import torch

        if seen.shape[1:] != self._sent:
            shapes = f"{self._sent}, those captured {seen.shape[1:]}"
            raise ValueError(f"model.cut: the clone's activations have shape {shapes}; grant the network that was cut")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        clone, settings, (low, high) = self._clone.to(device).train(), self.settings, self._range
        z = torch.from_numpy(seen).to(device)
        x = torch.full((len(z), *self._shape), 0.5, device=device, requires_grad=True)
        on_input = torch.optim.Adam([x], settings.input_learning_rate, amsgrad=True)
        on_clone = torch.optim.Adam(clone.parameters(), settings.model_learning_rate, amsgrad=True)

        def distance(pictures: Any) -> Any:
            return (clone(low + (high - low) * pictures) - z).square().flatten(1).mean(1)

        for _ in track(range(settings.outer), "unsplit", disable=not Console().is_terminal, transient=True):
            clone.requires_grad_(False)
            for _ in range(settings.inner_input):
                on_input.zero_grad()
                prior = settings.tv * total_variation(x) + settings.l2 * x.square().flatten(1).mean(1)
                torch.autograd.backward((distance(x) + prior).sum())
                on_input.step()
            clone.requires_grad_(True)
            for _ in range(settings.inner_model):
                on_clone.zero_grad()
                torch.autograd.backward(distance(x.detach()).mean())
                on_clone.step()
        with torch.no_grad():
            self.report |= {"residual": float(distance(x).mean()), "attacked": len(seen)}
            guesses: Array = (low + (high - low) * x.clamp(0, 1)).cpu().numpy()
        return np.ascontiguousarray(guesses)
