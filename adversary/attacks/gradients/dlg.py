"""Deep Leakage from Gradients: search the input and the label whose gradient equals the captured one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.gradients.gradient_matching import GradientMatching, Victim
from adversary.attacks.harness.knowledge import Array
from adversary.attacks.harness.registry import register


class DlgOptions(BaseModel):
    """Settings of `Dlg`."""

    model_config = ConfigDict(extra="forbid")
    iterations: int = Field(300, ge=1, le=100_000, description="Steps of L-BFGS, each with up to 20 evaluations.")
    restarts: int = Field(
        4, ge=1, le=100, description="Largest number of starts; the search stops at the first that fits."
    )
    enough: float = Field(
        1e-7,
        ge=0,
        description="A start fits below this squared distance, as a share of the captured gradient's squared length.",
    )
    patience: int = Field(10, ge=1, description="Stop a start after this many steps that improved less than 1 %.")


@register
class Dlg(GradientMatching):
    """Search inputs and labels together until their gradient equals the captured one.

    The search minimises the squared distance between gradients, summed over all layers, over dummy inputs and dummy
    label scores (through softmax), both from N(0, 1), with L-BFGS of step 1. Updates of several local steps are
    imitated step by step. The search often diverges, more often with batches and with ReLU; then the best point is
    returned.

    References
    ----------
    Zhu, Liu, Han, "Deep Leakage from Gradients", NeurIPS 2019.
    """

    name = "dlg"
    options = DlgOptions

    def invert(self, one: Victim) -> tuple[Array, float]:
        """Rebuild the inputs of one update, and search their labels too."""
        import torch

        def scores(draw: torch.Generator) -> tuple[Any, Any]:
            free = torch.randn(one.shape[0], one.classes, generator=draw).to(one.device).requires_grad_()
            return free, lambda: free.softmax(1)

        return search(one, scores, self.settings, self.seed)


def search(
    one: Victim, labels: Callable[[Any], tuple[Any, Callable[[], Any]]], settings: DlgOptions, seed: int
) -> tuple[Array, float]:
    """Search the inputs whose imitated update is nearest to the captured one, with L-BFGS.

    Parameters
    ----------
    one : Victim
    labels : callable
        From a generator, returns the variable searched together with the inputs (or None), and a function from it to
        labels.
    settings : DlgOptions
    seed : int

    Returns
    -------
    inputs : numpy.ndarray
        Float32 (examples, *input_shape).
    distance : float
        Squared distance, as a share of the captured update's squared length.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    best, least = torch.zeros(one.shape), float("inf")
    for _ in range(settings.restarts):
        x = torch.randn(one.shape, generator=draw).to(one.device).requires_grad_()
        found, reached = _descend(one, x, *labels(draw), settings)
        if reached < least:
            best, least = found, reached
        if least <= settings.enough:
            break
    return best.cpu().numpy(), least


def _descend(one: Victim, x: Any, free: Any, label: Callable[[], Any], settings: DlgOptions) -> tuple[Any, float]:
    """Search from one start until it fits, diverges or stops improving; return the best inputs and their distance."""
    import torch

    wanted, searched = list(one.gradients.values()), [x] if free is None else [x, free]
    length = sum(gradient.square().sum() for gradient in wanted).clamp_min(1e-30)
    best, least = x.detach().clone(), float("inf")
    # The distance is tiny near the right inputs, where L-BFGS's default tolerances would stop too early.
    optimiser: Any = torch.optim.LBFGS(searched, tolerance_grad=1e-12, tolerance_change=1e-15)

    def distance() -> Any:
        nonlocal best, least
        made = one.imitate(x, label())
        share = sum((a - b).square().sum() for a, b in zip(made, wanted, strict=True)) / length
        for tensor, slope in zip(searched, torch.autograd.grad(share, searched), strict=True):
            tensor.grad = slope
        if share < least:
            best, least = x.detach().clone(), share.item()
        return share.detach()

    idle = 0
    for _ in range(settings.iterations):
        before = least
        reached = optimiser.step(distance).item()
        idle = 0 if least < 0.99 * before else idle + 1
        if not np.isfinite(reached) or idle >= settings.patience or least <= settings.enough:
            break
    return best, least
