"""95 % bootstrap intervals over examples or their groups, and the crossed bootstrap over seeds as well.

Percentile bootstrap, Efron 1979; 1,000 resamples, all at once as matrices, in blocks that bound memory. The crossed
bootstrap resamples seeds and units independently: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007.
A unit's weight is Poisson distributed and drawn from its identity, so a person has the same weight in every seed:
Owen and Eckles, "Bootstrapping data arrays of arbitrary order", Annals of Applied Statistics 2012.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.statistics.score import Doubles, Floats, Score

RESAMPLES = 1000
KEPT = 400  # resamples that a score keeps, for comparisons over seeds
_CELLS = 4_000_000  # of one block of resamples: 32 MB
_SEED_DRAWS = 5  # draws of the seeds for each resample of the units
_MOST_UNITS = 20_000

Weights = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Units:
    """Identities of scored rows, and how often each row is drawn; too many units are not drawn together."""

    names: npt.NDArray[np.int64]
    weights: Weights | None


_UNITS: ContextVar[_Units | None] = ContextVar("units", default=None)
_COUNT: ContextVar[int] = ContextVar("resamples", default=RESAMPLES)


@contextmanager
def resampled_by(units: npt.NDArray[np.int64] | None) -> Iterator[None]:
    """Resample whole units while this context lasts: rows of one unit are drawn together, alike in all scores.

    Parameters
    ----------
    units : int64 (n,) or None
        Identity of the person, author or example of each scored row; the same in every seed. Scores of another number
        of rows resample single rows.
    """
    held = None
    if units is not None:
        held = _Units(units, unit_weights(units) if len(units) <= _MOST_UNITS else None)
    token = _UNITS.set(held)
    try:
        yield
    finally:
        _UNITS.reset(token)


@contextmanager
def resamples(count: int) -> Iterator[None]:
    """Draw fewer resamples than 1,000 while this context lasts, for scores whose own interval is not asked for."""
    token = _COUNT.set(count)
    try:
        yield
    finally:
        _COUNT.reset(token)


def independent(rows: npt.NDArray[np.bool_]) -> int:
    """Return the number of independent units among the marked rows (n,): persons, where these are resampled."""
    units = _UNITS.get()
    return int(rows.sum()) if units is None or len(units.names) != len(rows) else len(np.unique(units.names[rows]))


def _weights(n: int) -> Weights | None:
    """Return how often each of `n` scored rows is drawn, (resamples, n); None where single rows are resampled."""
    units = _UNITS.get()
    if units is None or len(units.names) != n or units.weights is None:
        return None
    return units.weights[: _COUNT.get()]


def unit_weights(units: npt.NDArray[np.int64]) -> Weights:
    """Return how often each row is drawn, uint8 (resamples, n): Poisson weights of mean 1, drawn from each unit."""
    names, of_row = np.unique(units, return_inverse=True)
    each = np.stack([np.random.default_rng(int(name) & (2**63 - 1)).poisson(1.0, RESAMPLES) for name in names], axis=1)
    return np.asarray(each.astype(np.uint8)[:, of_row])


def mean_score(
    measure: str, values: npt.NDArray[np.generic], rng: np.random.Generator, chance: float | None = None
) -> Score:
    """The mean of per-example `values` (n,) with its bootstrap interval."""
    each = np.asarray(values, np.float64)
    n = len(each)
    if (weights := _weights(n)) is not None:
        total = weights.sum(axis=1, dtype=np.float64)
        drawn = np.where(total > 0, weights @ each / np.maximum(total, 1), np.nan)
        return _score(measure, float(each.mean()), drawn, n, chance)
    means = np.concatenate([each[rng.integers(0, n, (rows, n))].mean(axis=1) for rows in _blocks(n)])
    return _score(measure, float(each.mean()), means, n, chance)


def weighted_score(
    measure: str,
    statistic: Callable[[Floats], Doubles],
    n: int,
    rng: np.random.Generator,
    chance: float | None = None,
) -> Score:
    """A statistic of example weights with its bootstrap interval.

    Parameters
    ----------
    measure : str
        Name.
    statistic : callable
        Weights (resamples, n), how often each example was drawn -> values (resamples,); NaN where undefined.
    n : int
        Examples.
    """
    value = statistic(np.ones((1, n), np.float32))[0]
    blocks = (_counts(rows, n, rng) for rows in _blocks(n))
    if (weights := _weights(n)) is not None:
        blocks = (block.astype(np.float32) for block in np.split(weights, np.cumsum([*_blocks(n)])[:-1]))
    drawn = [statistic(block) for block in blocks]
    return _score(measure, float(value), np.concatenate(drawn), n, chance)


def combine_seeds(scores: Sequence[Score]) -> Score:
    """The mean over seeds with Student's 95 % t-interval over them; a single seed keeps its own bootstrap interval.

    `n` is the number of examples over all seeds, but the interval's unit is the seed. It is not clipped to the
    measure's range: with few, unlike seeds it may reach beyond.

    Raises
    ------
    ValueError
        No scores, or scores of different measures.
    """
    if not scores:
        raise ValueError("scores: none is given; give at least one to combine")
    if len({score.measure for score in scores}) > 1:
        raise ValueError(
            f"scores: {', '.join(sorted({score.measure for score in scores}))} are several measures; give one"
        )
    if len(scores) == 1:
        return scores[0]
    values = np.array([score.value for score in scores])
    chances = [score.chance for score in scores if score.chance is not None]
    half = half_width(values)
    mean = float(values.mean())
    total = sum(score.n for score in scores)
    return Score(scores[0].measure, mean, mean - half, mean + half, total, float(np.mean(chances)) if chances else None)


def half_width(values: npt.ArrayLike) -> float:
    """Half of Student's 95 % t-interval of the mean of two or more values, one a seed."""
    from scipy.special import stdtrit  # slow to import, which no device should pay for

    each = np.asarray(values, np.float64)
    return float(stdtrit(len(each) - 1, 0.975) * each.std(ddof=1) / np.sqrt(len(each)))


def _score(measure: str, value: float, resampled: Doubles, n: int, chance: float | None) -> Score:
    low, high = interval(resampled)
    return Score(measure, value, low, high, n, chance, resampled[:KEPT])


def crossed(values: Doubles, draws: Doubles) -> Doubles:
    """Return resampled means over seeds: units and seeds are both drawn with replacement.

    Parameters
    ----------
    values : float64 (seeds,)
        A score, or a difference of scores, of each seed; two or more.
    draws : float64 (seeds, resamples)
        Its resampled values. A unit that several seeds share has one weight in all of them.

    Returns
    -------
    float64 (resamples * 5,)
        Their variance is that over units plus that over seeds, unbiased for few seeds. The latter holds the units'
        variance too where seeds have other units, so intervals are then wider than needed.
    """
    seeds, resamples = draws.shape
    picks = np.random.default_rng(0).integers(0, seeds, (_SEED_DRAWS, resamples, seeds))
    # The mean of a resample of few seeds varies too little by this factor.
    spread = (values[picks].mean(axis=-1) - values.mean()) * np.sqrt(seeds / (seeds - 1))
    return np.asarray((draws.mean(axis=0) + spread).reshape(-1))


class OverSeeds(NamedTuple):
    """The 95 % interval of a mean over seeds, its standard error, and Student's degrees of freedom, if it is that."""

    low: float
    high: float
    error: float
    freedom: int | None


def over_seeds(values: npt.ArrayLike, draws: Sequence[Doubles | None]) -> OverSeeds:
    """Return the interval of a mean over seeds: crossed bootstrap, or Student's t where resamples are missing.

    Parameters
    ----------
    values : float64 (seeds,)
        A score, or a difference of scores, of each seed; two or more.
    draws : sequence of float64 (resamples,) or None
        Resampled values of each seed.
    """
    each = np.asarray(values, np.float64)
    known = [one for one in draws if one is not None]
    if len(known) == len(each):
        resampled = crossed(each, np.stack(known))
        # A resample of one class has no AUC; of very few guesses, none may have one.
        defined = resampled[np.isfinite(resampled)]
        error = float(defined.std()) if len(defined) else math.nan
        return OverSeeds(*interval(resampled), error, None)
    mean, half = float(each.mean()), half_width(each)
    return OverSeeds(mean - half, mean + half, float(each.std(ddof=1)) / math.sqrt(len(each)), len(each) - 1)


def difference(draws: Doubles | None, other: Doubles | None) -> Doubles | None:
    """Return the resampled differences of two scores; None where the resamples of one are missing."""
    return None if draws is None or other is None else draws - other


def interval(draws: Doubles) -> tuple[float, float]:
    """Return the 95 % percentile interval of resampled values; NaN without a defined one."""
    defined = draws[np.isfinite(draws)]
    low, high = np.quantile(defined, (0.025, 0.975)) if len(defined) else (np.nan, np.nan)
    return float(low), float(high)


def _counts(rows: int, n: int, rng: np.random.Generator) -> Floats:
    drawn = rng.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
    return np.bincount(drawn.reshape(-1), minlength=rows * n).reshape(rows, n).astype(np.float32)


def _blocks(n: int) -> Iterator[int]:
    size = max(1, _CELLS // n)
    count = _COUNT.get()
    for start in range(0, count, size):
        yield min(size, count - start)
