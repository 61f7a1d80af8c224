"""Theoretical bounds for attacks on noised activations, added to the results of a finished cell.

They apply to variants whose devices begin with the transform `noise` or `laplace`, or with `input-noise` or
`input-laplace`: then they are bounds for an attacker who sees the noised input, from which activations are computed.
Rows carry the measured attack's names. Their role is "bound"; their name says which bound it is and which attackers it
limits:

- `unbiased only`: MSE 1/dFIL, with dFIL, eta and their quantiles over victims. Learnt decoders are biased and may go
  below it.
- `Gaussian inputs`: MSE by van Trees, for every attacker, if inputs are Gaussian with the mean and covariance of the
  attacker's own data. Images are not Gaussian, so for them it is a guide.
- `any two inputs`, `clip ball`: how often an attacker can name the sent input among m, by
  reconstruction robustness at kappa = 1/m; for attackers that guess each message by itself. Only with a clip.
- `wire-epsilon`: lower bound on a message's epsilon, from messages of two known activations where an audit sent some,
  otherwise from the attack's hits; and the noise's bound. Only with a clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wireleak.common.files import write_arrays
from wireleak.common.measures.bounds import laplace, two_points
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
from wireleak.common.targets.target import OWN
from wireleak.lab.run import truth
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.results import Row
from wireleak.lab.steps.score import partly_read

if TYPE_CHECKING:
    from torch import Tensor

    from wireleak.lab.run.job import AttackJob

QUANTILES = {LEAST_EXPOSED: 0.05, MOST_EXPOSED: 0.95}
CANDIDATES = "candidates"
# Transforms that may follow the noise, because they use only the noised activation.
_POST_PROCESSING = frozenset(
    {"requantise", "quantise", "dropout", "noise", "laplace", "metric-privacy", "input-noise", "input-laplace"}
)
# Inverting the covariance of more input values would take minutes, and so would the information of many such inputs:
# each takes hundreds of passes through the encoder.
_LARGE = 4096
_FEW = 64


@dataclass(frozen=True)
class WireNoise:
    """The noise that a variant's devices add.

    Attributes
    ----------
    spread : float
        Sigma of Gaussian noise, b of Laplace noise. For both, one number carries Fisher information 1 / spread^2
        about the value before the noise.
    clip : float or None
        Clip, in Euclidean norm for Gaussian noise and in L1 norm for Laplace noise; None without a clip.
    norm : int
        Order of the norm: 2 for Gaussian noise, 1 for Laplace noise.
    on_input : bool
        Whether the input is noised and not the activation.
    """

    spread: float
    clip: float | None
    norm: int = 2
    on_input: bool = False

    @property
    def clipped(self) -> two_points.Noise | None:
        """The same noise as audits of two known activations take it; None without a clip."""
        return None if self.clip is None else two_points.Noise(self.norm, self.spread, self.clip)


def noise_of(cell: Cell) -> WireNoise | None:
    """Return the noise of a cell's devices; None without noise, or with transforms that these bounds do not cover."""
    first, *later = cell.variant.transforms or (None,)
    if first is None or {step.name for step in later} - _POST_PROCESSING:
        return None
    clip, on_input = first.options.get("clip"), first.name.startswith("input-")
    if first.name in ("noise", "input-noise"):
        return WireNoise(float(first.options["sigma"]), clip, 2, on_input)
    if first.name in ("laplace", "input-laplace"):
        scale = first.options["scale"] if clip is None else 2 * clip / first.options["epsilon"]
        return WireNoise(float(scale), clip, 1, on_input)
    return None


def write_candidates(cell: Cell) -> Path:
    """Write the grant of the attack `candidates`: the victims' inputs, shuffled, and the public clip of activations.

    Returns
    -------
    Path
        `candidates.npz`: float32 `x` (m, *input_shape), no input twice; the noise's `norm`; `clip`, where devices clip.
    """
    path = cell.candidates
    with np.load(cell.inputs("victim"), allow_pickle=False) as sent:
        x = np.unique(sent["x"], axis=0)
    arrays: dict[str, npt.NDArray[Any]] = {"x": np.random.default_rng(cell.seed_of("candidates")).permutation(x)}
    noise = noise_of(cell)
    if noise is not None and not noise.on_input:
        arrays["norm"] = np.array(noise.norm)
        if noise.clip is not None:
            arrays["clip"] = np.array(noise.clip)
    return write_arrays(path, arrays, shared=True)


def companion_rows(cell: Cell, jobs: Sequence[AttackJob]) -> list[Row]:
    """Return bounds for a cell's attacks on inputs.

    Parameters
    ----------
    cell : Cell
        Cell whose attacks have finished.
    jobs : sequence of AttackJob
        The cell's attacks; only those on inputs that serving devices sent get bounds.

    Returns
    -------
    list of Row
        Empty where devices add no noise, links use TLS, or inputs are texts.
    """
    noise = noise_of(cell)
    jobs = [job for job in jobs if job.cell == cell and job.sought.rebuilds]
    if noise is None or cell.variant.encrypted or not jobs:
        return []
    victims = truth.ledger(cell)["x"]
    if are_numbered(victims):  # texts have no measure that these bounds apply to
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
    n: int | None = None

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
        ball = min(two, success_under_epsilon(prior, epsilon / 2))  # compared with pure noise, at half the distance
    else:
        two = success_under_mu(prior, mu_of(noise.clip, noise.spread))
        ball = success_within_ball(prior, noise.clip, noise.spread)
    return [_Values("reid", TWO_INPUTS, two), _Values("reid", BALL, ball)]


def _chance(victims: int) -> float:
    """Return the mean chance of re-identification over blocks; both bounds are concave in it."""
    from wireleak.common.measures.scores.reid import Reidentification

    return math.ceil(victims / Reidentification.candidates) / victims


def _audit(job: AttackJob, noise: WireNoise, victims: npt.NDArray[np.float32]) -> list[_Values]:
    if noise.clipped is None:
        return []
    if (counted := truth.audit_errors(job.cell)) is not None:
        tight = two_points.audit(noise.clipped, *counted)
        return [_Values("wire-epsilon", "", tight.lower), _Values("wire-epsilon", PROVED, tight.promised)]
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
    large = victims[0].size > _LARGE
    if large:
        victims = victims[:: -(-len(victims) // _FEW)]
    leaked = information(encoder, torch.from_numpy(victims), noise.spread, cell.seed)
    if not leaked.dfil.any():
        return []  # inputs without derivatives, such as word numbers
    values = [_Values("mse", UNBIASED, unbiased_bound(leaked.dfil).value)]
    for name, each in (("dfil", leaked.dfil), ("eta", leaked.eta)):
        mean = mean_score(name, each, np.random.default_rng(cell.seed))
        values.append(_Values(name, UNBIASED, mean.value, mean.low, mean.high))
        values += [_Values(name, each_of, float(np.quantile(each, share))) for each_of, share in QUANTILES.items()]
    if not large and cell.variant.queries == "surrogate":
        with np.load(cell.surrogate, allow_pickle=False) as granted:
            own = granted["x"][~granted["augmented"].astype(bool)]
        prior = GaussianPrior.fit(own)
        values.append(_Values("mse", VAN_TREES, van_trees_bound(encoder, prior, noise.spread, cell.input_shape).value))
    return [replace(one, n=len(victims)) for one in values]


def _clipped_encoder(cell: Cell, noise: WireNoise) -> Callable[[Tensor], Tensor]:
    """Return the encoder with its clip, or only the clip of the input: the function whose output gets the noise."""
    from torch import nn

    from wireleak.common.models import ModelConfig, load_weights

    encoder: nn.Module = nn.Identity()
    if not noise.on_input:
        encoder, _ = ModelConfig.model_validate(cell.model()).network().split(cell.variant.cut)
        load_weights(encoder, cell.checkpoint("encoder", cell.plan.rounds))
        encoder.eval().requires_grad_(False)

    def clipped(inputs: Tensor) -> Tensor:
        z: Tensor = encoder(inputs).flatten(1)
        if noise.clip is None:
            return z
        # A norm of 0 has no derivative; the tiny addend changes no other norm.
        length = (z.square().sum(1, keepdim=True) + 1e-30).sqrt() if noise.norm == 2 else z.abs().sum(1, keepdim=True)
        return z * (noise.clip / length.clamp_min(1e-30)).clamp(max=1.0)

    return clipped


def _row(job: AttackJob, one: _Values, victims: int) -> Row:
    return job.row(
        target=job.target,
        incomplete=partly_read(job).get(OWN, "") if one.role == "attack" else "",
        measure=one.measure,
        value=one.value,
        low=one.low,
        high=one.high,
        n=one.n or victims,
        role=one.role,
        name=one.name,
    )
