"""What theory allows an attacker on a noised wire, computed for a finished cell: rows beside the measured attack's.

For a variant whose devices begin with the transform `noise` or `laplace`. Rows carry the measured attack's
names; their role is "bound" and their name says which, and whom it binds:

- `unbiased only`: MSE 1/dFIL; dFIL and eta are beside it, and their quantiles over victims. Learnt decoders are
  biased and may go below it.
- `Gaussian inputs`: MSE by van Trees, for every attacker, if inputs were Gaussian with the mean and covariance
  of the attacker's own data. Images are not, so for them it is a guide.
- `any two inputs`, `clip ball`: how often an attacker can name the sent input among m, by
  reconstruction robustness at kappa = 1/m; for attackers that guess each message by itself. Only with a clip.
- `wire-epsilon`: what the attack's hits prove of a message's epsilon, beside what the noise proves. Only with a clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wireleak.common.files import write_arrays
from wireleak.common.measures.bounds import laplace
from wireleak.common.measures.bounds.auditing import audit_messages
from wireleak.common.measures.bounds.gaussian import mu_of
from wireleak.common.measures.bounds.reconstruction_robustness import (
    success_among_candidates,
    success_under_epsilon,
    success_under_mu,
    success_within_ball,
)
from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.references import (
    BALL,
    LEAST_EXPOSED,
    MOST_EXPOSED,
    PROVED,
    TWO_INPUTS,
    UNBIASED,
    VAN_TREES,
    Role,
)
from wireleak.lab.run import truth
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.results import Row

if TYPE_CHECKING:
    from torch import Tensor

    from wireleak.lab.run.job import AttackJob

QUANTILES = {LEAST_EXPOSED: 0.05, MOST_EXPOSED: 0.95}
CANDIDATES = "candidates"
# What may follow the noise: it sends nothing of the input that it did not get from it.
_POST_PROCESSING = frozenset({"requantise", "quantise", "dropout", "noise", "laplace", "metric-privacy"})
# Inverting a covariance of more input values than this would take minutes.
_LARGEST_PRIOR = 4096


@dataclass(frozen=True)
class WireNoise:
    """The noise that a variant's devices add.

    Attributes
    ----------
    spread : float
        Gaussian noise's sigma, Laplace noise's b: either way, one number tells 1 / spread^2 of Fisher information
        about what the noise was added to.
    clip : float or None
        In Euclidean norm for Gaussian noise, in L1 norm for Laplace noise; None where devices do not clip.
    norm : int
        2 for Gaussian noise, 1 for Laplace noise.
    """

    spread: float
    clip: float | None
    norm: int = 2


def noise_of(cell: Cell) -> WireNoise | None:
    """The noise of a cell's devices; None where they add none, or do what these bounds do not cover."""
    first, *later = cell.variant.transforms or (None,)
    if first is None or {step.name for step in later} - _POST_PROCESSING:
        return None
    clip = first.options.get("clip")
    if first.name == "noise":
        return WireNoise(float(first.options["sigma"]), clip)
    if first.name == "laplace":
        return WireNoise(
            float(first.options["scale"] if clip is None else 2 * clip / first.options["epsilon"]), clip, 1
        )
    return None


def write_candidates(cell: Cell) -> Path:
    """Write what the attack `candidates` is granted: the victims' inputs, shuffled, and the devices' public clip.

    Returns
    -------
    Path
        `candidates.npz`: float32 `x` (m, *input_shape), no input twice; the noise's `norm`; `clip`, where devices clip.
    """
    path = cell.candidates
    with np.load(cell.inputs("victim"), allow_pickle=False) as sent:
        x = np.unique(sent["x"], axis=0)
    arrays: dict[str, npt.NDArray[Any]] = {"x": np.random.default_rng(cell.seed).permutation(x)}
    noise = noise_of(cell)
    if noise is not None:
        arrays["norm"] = np.array(noise.norm)
        if noise.clip is not None:
            arrays["clip"] = np.array(noise.clip)
    write_arrays(path, arrays)
    return path


def companion_rows(cell: Cell, jobs: Sequence[AttackJob]) -> list[Row]:
    """Bounds to print beside what a cell's attacks on inputs reached.

    Parameters
    ----------
    cell : Cell
        All its attacks have finished.
    jobs : sequence of AttackJob
        The cell's; those on anything but inputs that serving devices sent are passed over.

    Returns
    -------
    list of Row
        Empty where devices add no noise, TLS hides it all, or inputs are texts.
    """
    noise = noise_of(cell)
    jobs = [job for job in jobs if job.cell == cell and job.sought.rebuilds]
    if noise is None or cell.variant.encrypted or not jobs:
        return []
    victims = truth.ledger(cell)["x"]
    if are_numbered(victims):  # which has no measured figure that these would bound
        return []
    learnt = [job for job in jobs if job.use.name != CANDIDATES]
    errors = _error_bounds(cell, noise, victims) if learnt else []
    rows = []
    for job in jobs:
        values = _success_bounds(noise, len(victims))
        values += errors if job in learnt else _audit(job, noise, victims)
        rows += [_row(job, one, len(victims)) for one in values]
    return rows


@dataclass(frozen=True)
class _Values:
    measure: str
    name: str
    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def role(self) -> Role:
        if not self.name:
            return "attack"
        return "quantile" if self.name in QUANTILES else "bound"


def _success_bounds(noise: WireNoise, victims: int) -> list[_Values]:
    if noise.clip is None:
        return []
    prior = _chance(victims)
    if noise.norm == 1:
        epsilon = laplace.epsilon_of(noise.clip, noise.spread)
        two = success_among_candidates(prior, epsilon)
        ball = min(two, success_under_epsilon(prior, epsilon / 2))  # beside noise alone, half as far
    else:
        two = success_under_mu(prior, mu_of(noise.clip, noise.spread))
        ball = success_within_ball(prior, noise.clip, noise.spread)
    return [_Values("reid", TWO_INPUTS, two), _Values("reid", BALL, ball)]


def _chance(victims: int) -> float:
    """Re-identification by chance: its mean over blocks, in which both bounds are concave."""
    from wireleak.common.measures.scores.reid import Reidentification

    return math.ceil(victims / Reidentification.candidates) / victims


def _audit(job: AttackJob, noise: WireNoise, victims: npt.NDArray[np.float32]) -> list[_Values]:
    if noise.clip is None:
        return []
    with np.load(job.guesses, allow_pickle=False) as stored:
        guesses = stored[job.use.name]
    correct = int((guesses == victims).reshape(len(victims), -1).all(axis=1).sum())
    with np.load(job.cell.candidates, allow_pickle=False) as granted:
        candidates = len(granted["x"])
    strength = {"scale" if noise.norm == 1 else "sigma": noise.spread}
    audit = audit_messages(correct, len(victims), candidates, clip=noise.clip, **strength)
    return [_Values("wire-epsilon", "", audit.lower), _Values("wire-epsilon", PROVED, audit.proved)]


def _error_bounds(cell: Cell, noise: WireNoise, victims: npt.NDArray[np.float32]) -> list[_Values]:
    import torch

    from wireleak.common.measures.bounds.fisher import information, unbiased_bound
    from wireleak.common.measures.bounds.van_trees import GaussianPrior, van_trees_bound

    encoder = _clipped_encoder(cell, noise)
    told = information(encoder, torch.from_numpy(victims), noise.spread, cell.seed)
    if not told.dfil.any():
        return []  # nothing to differentiate by, such as words' numbers
    values = [_Values("mse", UNBIASED, unbiased_bound(told.dfil).value)]
    for name, each in (("dfil", told.dfil), ("eta", told.eta)):
        mean = mean_score(name, each, np.random.default_rng(cell.seed))
        values.append(_Values(name, UNBIASED, mean.value, mean.low, mean.high))
        values += [_Values(name, each_of, float(np.quantile(each, share))) for each_of, share in QUANTILES.items()]
    if victims[0].size <= _LARGEST_PRIOR and cell.variant.queries == "surrogate":
        with np.load(cell.surrogate, allow_pickle=False) as granted:
            own = granted["x"][~granted["augmented"].astype(bool)]
        prior = GaussianPrior.fit(own)
        values.append(_Values("mse", VAN_TREES, van_trees_bound(encoder, prior, noise.spread, cell.input_shape).value))
    return values


def _clipped_encoder(cell: Cell, noise: WireNoise) -> Callable[[Tensor], Tensor]:
    """The map whose output the noise is added to."""
    from wireleak.common.models import ModelConfig, load_weights

    encoder, _ = ModelConfig.model_validate(cell.model()).network().split(cell.variant.cut)
    load_weights(encoder, cell.checkpoint("encoder", cell.plan.rounds))
    encoder.eval().requires_grad_(False)

    def clipped(inputs: Tensor) -> Tensor:
        z: Tensor = encoder(inputs).flatten(1)
        if noise.clip is None:
            return z
        # A norm of 0 has no derivative; adding the least number to its square leaves every other norm as it is.
        length = (z.square().sum(1, keepdim=True) + 1e-30).sqrt() if noise.norm == 2 else z.abs().sum(1, keepdim=True)
        return z * (noise.clip / length.clamp_min(1e-30)).clamp(max=1.0)

    return clipped


def _row(job: AttackJob, one: _Values, victims: int) -> Row:
    return Row(
        study=job.cell.study.name,
        variant=job.cell.variant.name,
        seed=job.cell.seed,
        link=job.cell.variant.seen_as,
        vantage=job.vantage,
        attack=job.use.shown,
        target=job.target,
        measure=one.measure,
        value=one.value,
        low=one.low,
        high=one.high,
        n=victims,
        role=one.role,
        name=one.name,
    )
