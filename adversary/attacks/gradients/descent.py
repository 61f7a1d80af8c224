"""Parts of a search that ends exactly: a distance without rounding, softened ReLUs, and descent within bounds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adversary.attacks.gradients.gradient_matching import Victim

# L-BFGS-B's stopping rules compare with 1, and near the right inputs the objective is below 1e-8.
_SCALE = 1e6


@dataclass
class Temperature:
    """Softness of a network's ReLUs, in standard deviations of their inputs (0 is a ReLU), and the number of them."""

    value: float = 0.0
    layers: int = 0


def softened(one: Victim) -> tuple[Victim, Temperature]:
    """Return the same update in double precision; the network's ReLUs become soft: `t log(1 + exp(z / t))`.

    A ReLU's second derivative is zero, so a search by gradients does not see which inputs would switch a unit. The
    softened network shows it.

    Returns
    -------
    victim : Victim
        With a copy of the network.
    temperature : Temperature
        Sets t for all layers: t is this many standard deviations of the layer's z.
    """
    from torch import nn
    from torch.nn.functional import relu, softplus

    temperature = Temperature()

    class Soft(nn.Module):
        def forward(self, z: Any) -> Any:
            if not temperature.value:
                return relu(z)
            t = temperature.value * z.std() + 1e-12
            return t * softplus(z / t)

    network = copy.deepcopy(one.network).double()
    for block in list(network.modules()):
        for name, module in block.named_children():
            if isinstance(module, nn.ReLU):
                setattr(block, name, Soft())
                temperature.layers += 1
    start = {name: value.detach().double().requires_grad_() for name, value in one.start.items()}
    gradients = {name: value.double() for name, value in one.gradients.items()}
    return replace(one, network=network, start=start, gradients=gradients), temperature


def flattened(gradients: Any) -> Any:
    """Return all layers' gradients as one unit vector."""
    import torch

    vector = torch.cat([gradient.flatten() for gradient in gradients])
    return vector / vector.norm().clamp_min(1e-30)


def descend(objective: Callable[[Any], Any], start: Any, evaluations: int) -> Any:
    """Minimise an objective over [-1, 1] with L-BFGS-B, which remembers 50 steps.

    Parameters
    ----------
    objective : callable
        From a tensor like `start` to a scalar.
    start : torch.Tensor
        Float64.
    evaluations : int
        Largest number of evaluations of the objective and its gradient.

    References
    ----------
    Zhu, Byrd, Lu, Nocedal, "Algorithm 778: L-BFGS-B", TOMS 1997, as SciPy has it.
    """
    import torch
    from scipy.optimize import Bounds, minimize

    def evaluate(flat: Any) -> tuple[float, Any]:
        u = torch.from_numpy(flat).to(start.device).reshape(start.shape).requires_grad_()
        value = objective(u)
        (slope,) = torch.autograd.grad(value, u)
        return _SCALE * float(value.detach()), _SCALE * slope.flatten().cpu().numpy()

    options = {"maxfun": evaluations, "maxiter": evaluations, "maxcor": 50, "ftol": 0, "gtol": 1e-9}
    first = start.detach().flatten().cpu().numpy()
    found = minimize(evaluate, first, jac=True, method="L-BFGS-B", bounds=Bounds(-1, 1), options=options).x
    return torch.from_numpy(np.nan_to_num(found)).to(start.device).reshape(start.shape)
