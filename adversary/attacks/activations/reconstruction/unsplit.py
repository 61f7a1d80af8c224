"""UnSplit: guess the inputs and the encoder together, without data, queries or weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.activations.reconstruction.search import total_variation
from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import shown
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input


class UnsplitOptions(BaseModel):
    """Settings of `Unsplit`; the authors run 1000 x (100 + 100) steps for each image."""

    model_config = ConfigDict(extra="forbid")
    clones: int = Field(5, ge=1, le=100, description="Number of clones at the start; the best one continues.")
    outer: int = Field(20, ge=1, le=100_000, description="Number of alternations between inputs and clone.")
    inner_input: int = Field(50, ge=1, le=100_000, description="Steps on the inputs per alternation.")
    inner_model: int = Field(50, ge=1, le=100_000, description="Steps on the clone per alternation.")
    input_learning_rate: float = Field(
        1e-2, gt=0, le=1, description="Adam's step size on inputs; .001 in the authors' code."
    )
    model_learning_rate: float = Field(1e-3, gt=0, le=1, description="Adam's step size on the clone.")
    tv: float = Field(0.1, ge=0, description="Weight of the total variation.")
    l2: float = Field(1.0, ge=0, description="Weight of the mean square.")


@register
class Unsplit(ActivationAttack):
    """Rebuild the victims' inputs and a clone of their encoder, knowing only the network's architecture.

    The attack alternates steps on the inputs (`mean (g(x) - z)^2 + tv TV(x) + l2 mean x^2`, from grey) and on the clone
    g (`mean (g(x) - z)^2`), both by Adam with AMSGrad. Inputs are scaled to [0, 1] and clipped at the end. All captured
    activations are attacked at once with one clone; the authors attack one image after another, without resetting the
    clone. To be affordable, the steps are far fewer than theirs and the steps on inputs are larger. Activations do not
    distinguish a picture from its negative, which another clone explains equally well. So several clones start, and the
    one whose inputs have the lowest first objective after a quarter of the time continues.

    References
    ----------
    Erdoğan, Küpçü, Çiçek, "UnSplit: Data-Oblivious Model Inversion, Model Stealing, and Label Inference Attacks
    Against Split Learning", WPES 2022.
    """

    name = "unsplit"
    threat = ThreatModel(vantage=(Vantage.SERVER,), sees=("activation",), knows=(Knows.ARCHITECTURE,))
    target = Input
    options = UnsplitOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Draw the clones' weights; everything else needs the victims' activations."""
        drawn = [knowledge.fresh_network(self.seed * 1000 + i) for i in range(self.settings.clones)]
        self._clones = [network.split(cut)[0] for network, cut in drawn]
        network, cut = drawn[0]
        self._shape, self._range, self._sent = network.input_shape, knowledge.input_range, network.activation_shape(cut)

    def guess(self, activations: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from activations (n, *activation_shape), all rows together."""
        import torch

        from adversary.attacks.harness.device import best_device

        if activations.shape[1:] != self._sent:
            shapes = f"{self._sent}, the captured ones {activations.shape[1:]}"
            raise ValueError(f"model.cut: the clone's activations have shape {shapes}; grant the network that was cut")
        device = best_device()
        z = torch.from_numpy(activations).to(device)
        searches = [_Search(clone.to(device), z, self._shape, self._range, self.settings) for clone in self._clones]
        first = max(1, self.settings.outer // 4)
        for search in searches:
            search.alternate(first)
        costs = [search.cost() for search in searches]
        best = searches[int(np.argmin(costs))]
        best.alternate(self.settings.outer - first)
        self.report |= {"costs": costs, "final_cost": best.cost(), "attacked": len(activations)}
        low, high = self._range
        guesses: Array = (low + (high - low) * best.x.detach().clamp(0, 1)).cpu().numpy()
        return guesses


class _Search:
    """Inputs and a clone, fitted together to the same activations."""

    def __init__(
        self, clone: Any, z: Any, shape: tuple[int, ...], span: tuple[float, float], settings: UnsplitOptions
    ) -> None:
        import torch

        self.clone, self.z, self.span, self.settings = clone.train(), z, span, settings
        self.x = torch.full((len(z), *shape), 0.5, device=z.device, requires_grad=True)
        self.on_input = torch.optim.Adam([self.x], settings.input_learning_rate, amsgrad=True)
        self.on_clone = torch.optim.Adam(clone.parameters(), settings.model_learning_rate, amsgrad=True)

    def alternate(self, times: int) -> None:
        """Alternate: steps on the inputs, then steps on the clone."""
        import torch

        for _ in shown(range(times), "unsplit"):
            self.clone.requires_grad_(False)
            for _ in range(self.settings.inner_input):
                self.on_input.zero_grad()
                torch.autograd.backward((self._distance(self.x) + self._prior()).sum())
                self.on_input.step()
            self.clone.requires_grad_(True)
            for _ in range(self.settings.inner_model):
                self.on_clone.zero_grad()
                torch.autograd.backward(self._distance(self.x.detach()).mean())
                self.on_clone.step()

    def cost(self) -> float:
        """Return the objective of the steps on the inputs, averaged over inputs."""
        return float((self._distance(self.x) + self._prior()).mean().detach())

    def _distance(self, x: Any) -> Any:
        low, high = self.span
        return (self.clone(low + (high - low) * x) - self.z).square().flatten(1).mean(1)

    def _prior(self) -> Any:
        square = self.x.square().flatten(1).mean(1)
        return self.settings.tv * total_variation(self.x) + self.settings.l2 * square
