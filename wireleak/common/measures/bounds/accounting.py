"""Epsilon of DP-SGD: Renyi DP of the Poisson-subsampled Gaussian mechanism, converted to (epsilon, delta)-DP."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np

Conversion = Literal["improved", "classic"]

# TensorFlow Privacy's in 2020, so that what was published then can be computed again; more would be a little tighter.
ORDERS: tuple[float, ...] = (1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 4.5, *range(5, 64), 128, 256, 512)


def joint_noise_multiplier(*parts: float) -> float:
    """Noise multiplier of several Gaussian mechanisms taken as one, where a record touches all of them at once.

    Each part's output over its clipping norm moves by 1 at most, so all together by sqrt(k) under the same noise: k
    parts of noise multiplier s are one of s / sqrt(k). In terms of Dong, Roth, Su (JRSS B 2022): mu^2 adds up.
    """
    return 1 / math.sqrt(sum(part**-2 for part in parts))


def epsilon(
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    conversion: Conversion = "improved",
    orders: Sequence[float] = ORDERS,
) -> float:
    """Epsilon after `steps` steps of DP-SGD.

    The unit of protection is one record of the set that the steps sample from: its training examples. Nothing is said
    of inputs that the trained model is given later.

    Parameters
    ----------
    noise_multiplier : float
        Noise's standard deviation over the clipping norm; 0 gives infinity.
    sample_rate : float
        Chance of each record to be in a step's batch (Poisson sampling), in (0, 1].
    steps : int
        Steps of all epochs and rounds together.
    delta : float
        In (0, 1).
    conversion : {"improved", "classic"}
        From Renyi DP: Balle et al. 2020, theorem 21, or Mironov 2017, proposition 3, which older accountants such as
        TensorFlow Privacy's of 2020 use.
    orders : sequence of float
        Of Renyi DP, each above 1; epsilon is the least that any of them proves.

    Returns
    -------
    float
        0 without a step.

    Raises
    ------
    ValueError
        An argument is outside its range.

    References
    ----------
    Mironov, Talwar, Zhang, "Renyi Differential Privacy of the Sampled Gaussian Mechanism", 2019.
    """
    for name, value, fits in (
        ("noise_multiplier", noise_multiplier, noise_multiplier >= 0),
        ("sample_rate", sample_rate, 0 < sample_rate <= 1),
        ("steps", steps, steps >= 0),
        ("delta", delta, 0 < delta < 1),
    ):
        if not fits or not math.isfinite(value):
            raise ValueError(f"{name}: {value} is outside its range; see the docstring of epsilon")
    if steps == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    # Opacus imports torch, which whoever only reads measures should not pay for.
    from opacus.accountants.analysis import rdp

    alpha = np.array(orders, float)
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("ignore")
        spent = rdp.compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=steps, orders=alpha.tolist())
    if conversion == "classic":
        candidates = np.asarray(spent) - math.log(delta) / (alpha - 1)
    else:
        candidates = np.asarray(spent) - (math.log(delta) + np.log(alpha)) / (alpha - 1) + np.log1p(-1 / alpha)
    return max(0.0, float(np.nanmin(candidates)))
