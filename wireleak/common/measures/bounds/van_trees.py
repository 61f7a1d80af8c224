"""Van Trees' bound: no attacker, biased or not, has a lower error if inputs come from a known prior.

Mean squared error per input value >= 1 / (E[dFIL] + prior's Fisher information); the matrix form below is higher. It
needs a prior whose score is finite, and here that is a Gaussian fitted on the attacker's own data. Images are not
Gaussian: for them the number is a guide.

References
----------
Van Trees, "Detection, Estimation, and Modulation Theory", 1968.
Gill, Levit, "Applications of the van Trees Inequality: a Bayesian Cramer-Rao Bound", Bernoulli 1995 (the matrix form).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.bounds.fisher import Bound, Doubles
from wireleak.common.measures.bounds.jacobian import jacobian_blocks

if TYPE_CHECKING:
    from wireleak.common.measures.bounds.jacobian import Map

GAUSSIAN_INPUTS = "every attacker, if inputs were Gaussian"
_ROWS = 32_768  # of all Jacobians that a mean is taken over


@dataclass(frozen=True)
class GaussianPrior:
    """Inputs as a Gaussian: the one prior whose score is written down. Images are not Gaussian.

    Parameters
    ----------
    mean : numpy.ndarray
        Float64 (d,).
    covariance : numpy.ndarray
        Float64 (d, d), positive definite.
    """

    mean: Doubles
    covariance: Doubles

    @classmethod
    def fit(cls, inputs: npt.NDArray[np.floating]) -> GaussianPrior:
        """Fit inputs (n, ...) by Ledoit and Wolf's shrinkage, so that pixels that never change leave it invertible.

        Raises
        ------
        ValueError
            Fewer than two inputs, or inputs that are all alike.
        """
        from sklearn.covariance import LedoitWolf

        flat = np.asarray(inputs, np.float64).reshape(len(inputs), -1)
        if len(flat) < 2 or not (flat.std(axis=0) > 0).any():
            raise ValueError(f"prior: {len(flat)} inputs do not vary; a Gaussian needs at least two different ones")
        fitted = LedoitWolf().fit(flat)
        return cls(fitted.location_, fitted.covariance_)

    def sample(self, n: int, seed: int) -> Doubles:
        """Draw (n, d)."""
        normal = np.random.default_rng(seed).standard_normal((n, len(self.mean)))
        return self.mean + normal @ np.linalg.cholesky(self.covariance).T


def van_trees(mean_dfil: float, prior_information: float) -> float:
    """Return 1 / (E[dFIL] + prior's Fisher information per input value): the form that needs only two numbers."""
    return 1 / (mean_dfil + prior_information)


def van_trees_bound(
    encoder: Map, prior: GaussianPrior, sigma: float, shape: tuple[int, ...], draws: int | None = None
) -> Bound:
    """Return a mean squared error per input value below which no attacker goes when inputs come from `prior`.

    Tr((E[J^T J] / sigma^2 + covariance^-1)^-1) / d, at least as high as `van_trees`; a linear encoder's Bayes attacker
    attains it.

    Parameters
    ----------
    encoder, sigma
        As in `information`.
    prior : GaussianPrior
        Of the flattened inputs.
    shape : tuple of int
        One input's shape.
    draws : int, optional
        Inputs drawn from the prior for the expectation; by default 256, fewer (at least 32) for wide activations.
    """
    import torch

    if sigma == 0:
        return Bound(0.0, GAUSSIAN_INPUTS)
    with torch.no_grad():
        outputs = encoder(torch.zeros(1, *shape))[0].numel()
    draws = draws or min(256, max(32, _ROWS // outputs))
    drawn = torch.from_numpy(prior.sample(draws, seed=0).astype(np.float32)).reshape(draws, *shape)
    size = len(prior.mean)
    total = np.zeros((size, size))
    for block in jacobian_blocks(encoder, drawn):
        rows = block.flatten(0, 1)
        total += (rows.T @ rows).double().cpu().numpy()
    inverse = np.linalg.inv(prior.covariance) + total / (draws * sigma**2)
    return Bound(float(np.trace(np.linalg.inv(inverse))) / size, GAUSSIAN_INPUTS)
