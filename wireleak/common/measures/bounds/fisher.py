"""Fisher information of a noised activation, and the bound for unbiased attackers.

A message is z = f(x) + N(0, sigma^2 I) with Jacobian J of f at x: the Fisher information is J^T J / sigma^2, and
1 / dFIL (Cramer, Rao) bounds the mean squared error per input value of *unbiased* attackers only. A decoder that knows
what inputs look like is biased and may go far below, so the number never appears without the words "unbiased only".
`wireleak.common.measures.bounds.van_trees` bounds every attacker, given a prior.

References
----------
Hannun, Guo, van der Maaten, "Measuring Data Leakage in Machine-Learning Models with Fisher Information", UAI 2021
(eta).
Maeng, Guo, Kariyappa, Suh, "Bounding the Invertibility of Privacy-Preserving Instance Encoding Using Fisher
Information", NeurIPS 2023 (dFIL).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.bounds.jacobian import CELLS, jacobians, pullback
from wireleak.common.references import UNBIASED

if TYPE_CHECKING:
    from torch import Tensor

    from wireleak.common.measures.bounds.jacobian import Map

Doubles = npt.NDArray[np.float64]
_EXACT_OUTPUTS = 128
_PROBES = 64
_POWER_STEPS = 40


@dataclass(frozen=True)
class Bound:
    """A lower bound on the mean squared error per input value; printing it prints for whom it holds."""

    value: float
    holds_for: str

    def __str__(self) -> str:
        return f"MSE at least {self.value:.4g} ({self.holds_for})"


@dataclass(frozen=True)
class FisherInformation:
    """Fisher information of each example's activation about its input.

    Parameters
    ----------
    dfil : numpy.ndarray
        Float64 (n,): Tr(J^T J) / (d sigma^2), per squared unit of an input value.
    eta : numpy.ndarray
        Float64 (n,): ||J||_2 / sigma, for the most exposed direction of the input.
    exact : bool
        False where the trace is Hutchinson's estimate and the norm a power iteration's (from below).
    """

    dfil: Doubles
    eta: Doubles
    exact: bool


def information(encoder: Map, inputs: Tensor, sigma: float, seed: int = 0) -> FisherInformation:
    """Fisher information of each example through `encoder`, at noise `sigma` (0: infinite).

    Parameters
    ----------
    encoder : callable
        (n, *input_shape) to (n, *activation_shape), differentiable; one example must not influence another's row.
    inputs : torch.Tensor
        Float (n, *input_shape).
    sigma : float
        Standard deviation of the noise on each activation value.
    seed : int
        Of Hutchinson's probes, used above 128 activation values.
    """
    import torch

    size = inputs[0].numel()
    with torch.no_grad():
        outputs = encoder(inputs[:1])[0].numel()
    exact = outputs <= _EXACT_OUTPUTS
    rows = max(1, CELLS // ((outputs if exact else 8) * size))
    parts = []
    for batch in torch.split(inputs, rows):
        parts.append(_exact(jacobians(encoder, batch)) if exact else _estimated(encoder, batch, seed))
    trace, norm = (np.concatenate(each) for each in zip(*parts, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        return FisherInformation(trace / (size * np.float64(sigma) ** 2), norm / np.float64(sigma), exact)


def unbiased_bound(dfil: Doubles) -> Bound:
    """Return 1 / mean dFIL of examples (n,): no unbiased attacker has a lower mean MSE, a biased one may."""
    mean = float(np.mean(dfil))
    return Bound(1 / mean if mean > 0 else math.inf, UNBIASED)


def _exact(each: Tensor) -> tuple[Doubles, Doubles]:
    import torch

    # The smaller Gram matrix has the same eigenvalues but for zeros.
    gram = each @ each.mT if each.shape[1] <= each.shape[2] else each.mT @ each
    largest = torch.linalg.eigvalsh(gram.double())[:, -1].clamp_min(0).sqrt()
    return gram.diagonal(dim1=1, dim2=2).double().sum(1).cpu().numpy(), largest.cpu().numpy()


def _estimated(encoder: Map, inputs: Tensor, seed: int) -> tuple[Doubles, Doubles]:
    import torch

    random = torch.Generator().manual_seed(seed)
    outputs, pull = pullback(encoder, inputs)
    trace = torch.zeros(len(inputs), dtype=torch.float64)
    for _ in range(_PROBES):
        signs = (torch.randint(0, 2, outputs.shape, generator=random) * 2 - 1).to(outputs)
        trace += pull(signs)[0].detach().flatten(1).double().square().sum(1).cpu() / _PROBES
    direction = torch.randn(inputs.shape, generator=random).to(inputs)
    norm = torch.zeros(len(inputs), dtype=torch.float64)
    for _ in range(_POWER_STEPS):
        scale = direction.flatten(1).norm(dim=1).clamp_min(1e-30).reshape(-1, *[1] * (inputs.dim() - 1))
        pushed: Tensor = torch.func.jvp(encoder, (inputs,), (direction / scale,))[1]
        norm = pushed.detach().flatten(1).double().norm(dim=1).cpu()
        direction = pull(pushed)[0].detach()
    return trace.numpy(), norm.numpy()
