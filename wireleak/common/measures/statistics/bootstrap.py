"""95 % bootstrap intervals over examples, and Student's t over seeds.

Percentile bootstrap, Efron 1979; 1,000 resamples, all at once as matrices, in blocks that bound memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.statistics.score import Doubles, Floats, Score

RESAMPLES = 1000
_CELLS = 4_000_000  # of one block of resamples: 32 MB


def mean_score(
    measure: str, values: npt.NDArray[np.generic], rng: np.random.Generator, chance: float | None = None
) -> Score:
    """The mean of per-example `values` (n,) with its bootstrap interval."""
    each = np.asarray(values, np.float64)
    n = len(each)
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
    drawn = [statistic(_counts(rows, n, rng)) for rows in _blocks(n)]
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
    defined = resampled[np.isfinite(resampled)]
    low, high = np.quantile(defined, (0.025, 0.975)) if len(defined) else (np.nan, np.nan)
    return Score(measure, value, float(low), float(high), n, chance)


def _counts(rows: int, n: int, rng: np.random.Generator) -> Floats:
    drawn = rng.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
    return np.bincount(drawn.reshape(-1), minlength=rows * n).reshape(rows, n).astype(np.float32)


def _blocks(n: int) -> Iterator[int]:
    size = max(1, _CELLS // n)
    for start in range(0, RESAMPLES, size):
        yield min(size, RESAMPLES - start)
