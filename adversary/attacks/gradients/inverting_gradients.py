"""Inverting Gradients: search the image whose gradient has the direction of the captured one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.gradients.descent import Temperature, descend, flattened, softened
from adversary.attacks.gradients.gradient_matching import GradientMatching, Victim, total_variation
from adversary.attacks.harness.knowledge import Array
from adversary.attacks.harness.registry import register

# The ReLUs' softness at the end of the steps and in the stages that refine, as a share of the first.
_STAGES = (0.1, 0.08, 0.06, 0.04, 0.03, 0.02, 0.01, 0.0)
# The prior's weight in these stages, as a multiple of the distance at their start; it falls on in the last stage.
_SHARE = 2.0


class InvertingOptions(BaseModel):
    """Settings of `InvertingGradients`, for inputs scaled to [-1, 1]."""

    model_config = ConfigDict(extra="forbid")
    iterations: int = Field(100, ge=8, le=1_000_000, description="Steps of signed Adam; the paper uses at least 4,800.")
    refine: int = Field(
        600, ge=0, le=1_000_000, description="Evaluations of L-BFGS-B after these steps; the paper has none."
    )
    learning_rate: float = Field(0.1, gt=0, description="First step size of Adam; it falls linearly to zero.")
    tv: float = Field(
        1e-2, ge=0, description="Weight of the total variation in Adam's steps; the paper uses 1e-6 to .1."
    )
    softness: float = Field(
        1.0, ge=0, description="How soft ReLUs are at first, in standard deviations; with 0 they stay as they are."
    )
    restarts: int = Field(1, ge=1, le=100, description="Number of starts; the one with the lowest distance is kept.")
    labels: Literal["weights", "biases"] = Field(
        "weights", description="Gradients of the last layer from which labels are read; biases work for any features."
    )


@register
class InvertingGradients(GradientMatching):
    """Search images by the cosine between gradients, with total variation as their prior.

    The search minimises `1 - cos(made, captured) + tv TV(x)`, with the cosine over all layers at once, from noise. Adam
    gets the sign of each element's derivative, and x is clipped to the range after each step. Updates of several local
    steps are imitated step by step, and the cosine is that of the weight change. The client's split into batches is
    unknown, so every epoch takes the examples in one order. The authors assume known labels; this attack reads them
    from the last layer, see `labels_of`.

    The paper's search stops short, because many directions of x hardly turn the gradient. There, signed steps do not
    settle, any fixed prior outweighs the distance, and a cosine near 1 is only rounding. So L-BFGS-B ends the search in
    double precision, with the prior scaled by the distance, which is half the squared distance of the unit vectors. It
    equals `1 - cos`. ReLUs are soft at first and harden, because their second derivatives are zero and so do not show
    which units would switch.

    References
    ----------
    Geiping, Bauermeister, Dröge, Moeller, "Inverting Gradients - How easy is it to break privacy in federated
    learning?", NeurIPS 2020.
    """

    name = "inverting-gradients"
    options = InvertingOptions

    def invert(self, one: Victim) -> tuple[Array, float]:
        """Rebuild the inputs of one update, with labels read from its last layer."""
        return self.rebuild(one, self.read_labels(one))

    def read_labels(self, one: Victim) -> Any:
        """Return the labels of one update, int64 (examples,), as its last layer tells them, and report them."""
        labels = one.labels(self.settings.labels)
        self.report.setdefault("labels", []).append(labels.tolist())
        return labels

    def rebuild(self, one: Victim, labels: Any) -> tuple[Array, float]:
        """Rebuild the inputs of one update, int64 (examples,) labels given; return them and the remaining distance."""
        import torch

        (soft, temperature), (low, high) = softened(one), self._range
        wanted = flattened(soft.gradients.values())

        def distance(u: Any) -> Any:
            made = soft.imitate((low + high) / 2 + u * (high - low) / 2, labels)
            return (flattened(made) - wanted).square().sum() / 2

        draw = torch.Generator().manual_seed(self.seed)
        best, least = torch.zeros(one.shape), float("inf")
        for _ in range(self.settings.restarts):
            u = torch.randn(one.shape, generator=draw, dtype=torch.float64).clamp(-1, 1).to(one.device)
            u = self._refine(distance, temperature, self._search(distance, temperature, u))
            temperature.value = 0.0
            if (left := distance(u).item()) < least:
                best, least = u, left
        guess: Array = ((low + high) / 2 + best * (high - low) / 2).cpu().numpy()
        return guess, least

    def _search(self, distance: Callable[[Any], Any], temperature: Temperature, u: Any) -> Any:
        """Take the paper's steps: Adam on the signs, while ReLUs harden to the first stage's softness."""
        import torch

        u.requires_grad_()
        optimiser = torch.optim.Adam([u], self.settings.learning_rate)
        decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, self.settings.iterations)
        for step in range(self.settings.iterations):
            temperature.value = self.settings.softness * _STAGES[0] ** (step / self.settings.iterations)
            (u.grad,) = torch.autograd.grad(distance(u) + self.settings.tv * total_variation(u), u)
            u.grad.sign_()
            optimiser.step()
            decay.step()
            u.data.clamp_(-1, 1)
        return u.detach()

    def _refine(self, distance: Callable[[Any], Any], temperature: Temperature, u: Any) -> Any:
        """Descend in stages of harder ReLUs; a network without ReLUs needs only the last one."""
        if not self.settings.refine:
            return u
        softer = _STAGES[:-1] if temperature.layers and self.settings.softness else ()
        evaluations = -(-self.settings.refine // (len(softer) + 1))
        for stage in softer:
            temperature.value = self.settings.softness * stage
            u = descend(partial(_with_prior, distance, _SHARE * distance(u).item()), u, evaluations)
        temperature.value = 0.0
        return descend(lambda v: distance(v) * (1 + _SHARE * total_variation(v)), u, evaluations)


def _with_prior(distance: Callable[[Any], Any], weight: float, u: Any) -> Any:
    return distance(u) + weight * total_variation(u)
