"""Inverting Gradients: search the image whose gradient has the direction of the captured one."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.gradients.gradient_matching import GradientMatching, Victim, total_variation
from adversary.attacks.harness.knowledge import Array
from adversary.attacks.harness.registry import register


class InvertingOptions(BaseModel):
    """Settings of `InvertingGradients`, for inputs scaled to [-1, 1]."""

    model_config = ConfigDict(extra="forbid")
    iterations: int = Field(
        1000, ge=8, le=1_000_000, description="Steps of signed Adam; the paper uses at least 4,800."
    )
    learning_rate: float = Field(
        0.1, gt=0, description="First step size; divided by ten after 3/8, 5/8 and 7/8 of the steps."
    )
    tv: float = Field(1e-2, ge=0, description="Weight of the total variation; the paper uses 1e-6 to .1.")
    restarts: int = Field(1, ge=1, le=100, description="Number of starts; the one with the lowest objective is kept.")
    labels: Literal["weights", "biases"] = Field(
        "weights", description="Gradients of the last layer from which labels are read; biases work for any features."
    )


@register
class InvertingGradients(GradientMatching):
    """Search images by the cosine between gradients, with total variation as their prior.

    The search minimises `1 - cos(made, captured) + tv TV(x)`, with the cosine over all layers at once, from noise. Adam
    gets the sign of each element's derivative, its step is divided by ten three times, and x is clipped to the range
    after each step. Updates of several local steps are imitated step by step, and the cosine is that of the weight
    change. The client's split into batches is unknown, so every epoch takes the examples in one order. The authors
    assume known labels; this attack reads them from the last layer, see `labels_of`.

    References
    ----------
    Geiping, Bauermeister, Dröge, Moeller, "Inverting Gradients - How easy is it to break privacy in federated
    learning?", NeurIPS 2020.
    """

    name = "inverting-gradients"
    options = InvertingOptions

    def invert(self, one: Victim) -> tuple[Array, float]:
        """Rebuild the inputs of one update."""
        import torch

        wanted = torch.cat([gradient.flatten() for gradient in one.gradients.values()])
        labels = one.labels(self.settings.labels)
        self.report.setdefault("labels", []).append(labels.tolist())
        low, high = self._range
        draw = torch.Generator().manual_seed(self.seed)
        best, least, left = torch.zeros(one.shape), float("inf"), float("inf")
        steps = self.settings.iterations
        for _ in range(self.settings.restarts):
            u = torch.randn(one.shape, generator=draw).clamp(-1, 1).to(one.device).requires_grad_()
            optimiser = torch.optim.Adam([u], self.settings.learning_rate)
            decay = torch.optim.lr_scheduler.MultiStepLR(optimiser, [steps * part // 8 for part in (3, 5, 7)])
            for step in range(steps + 1):
                made = one.imitate((low + high) / 2 + u * (high - low) / 2, labels)
                angle = 1 - torch.cosine_similarity(torch.cat([g.flatten() for g in made]), wanted, dim=0)
                objective = angle + self.settings.tv * total_variation(u)
                if step == steps:
                    break
                (u.grad,) = torch.autograd.grad(objective, u)
                u.grad.sign_()
                optimiser.step()
                decay.step()
                u.data.clamp_(-1, 1)
            if objective.item() < least:
                best, least, left = u.detach().clone(), objective.item(), angle.item()
        found: Array = ((low + high) / 2 + best * (high - low) / 2).cpu().numpy()
        return found, left
