"""Distance correlation: how far two views of the same examples depend on each other, linearly or not.

Székely, Rizzo, Bakirov, "Measuring and testing dependence by correlation of distances", Annals of Statistics 2007;
bias-corrected form: Székely, Rizzo, "The distance correlation t-test of independence in high dimension", 2013.

Two public split-learning code bases centre *squared* distances and call the result distance correlation. That is
sqrt(linear CKA), which is blind to dependence without correlation; `exponent=2` computes it, only for comparison with
their figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.generic]
Doubles = npt.NDArray[np.float64]
Order = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DistanceCorrelation:
    """Distance correlation of two samples, and its null distribution.

    Parameters
    ----------
    value : float
        Biased (V-statistic) distance correlation, 0 to 1; of independent samples it is above 0, the more so the
        fewer the rows and the wider the features.
    corrected : float
        Bias-corrected squared distance correlation: near 0, and below it half of the time, where nothing depends.
    null : tuple of float
        `value` with the second sample's rows in each of the orders given.
    """

    value: float
    corrected: float
    null: tuple[float, ...]

    @property
    def p_value(self) -> float:
        """Share of the null, the value itself counted in, that reaches the value."""
        return (1 + sum(drawn >= self.value for drawn in self.null)) / (1 + len(self.null))


def distance_correlation(x: Rows, y: Rows, *, exponent: float = 1.0) -> float:
    """Biased distance correlation dCor = sqrt(V(x,y) / sqrt(V(x,x) V(y,y))), V(x,y) = mean of A * B.

    A and B are the double-centred matrices of Euclidean distances between rows.

    Parameters
    ----------
    x, y : (n, ...)
        Two views of the same n examples; everything after the first axis is one vector.
    exponent : float
        Power of the distances; below 2 the value is 0 only under independence (as n grows), 2 is sqrt(linear CKA).

    Returns
    -------
    float
        0 to 1; 0 where one of them does not vary.

    Raises
    ------
    ValueError
        Numbers of rows differ or are below 2, or a value is not finite.
    """
    a, b = _distances(x, y, exponent)
    return _correlation(_centred(a), _centred(b))


def corrected_distance_correlation(x: Rows, y: Rows) -> float:
    """Bias-corrected estimate of the *squared* distance correlation (U-statistic); parameters as above, n > 3.

    It may be negative, and is near 0 for independent samples of any dimension.
    """
    a, b = _distances(x, y, 1.0)
    return _corrected(a, b)


def distance_correlation_test(x: Rows, y: Rows, orders: Iterable[Order] = ()) -> DistanceCorrelation:
    """Return the distance correlation, also bias-corrected, and its null over `orders` of y's rows.

    Parameters
    ----------
    x, y : (n, ...)
        Two views of the same n examples, n > 3.
    orders : iterable of int64 (n,)
        Row i of y is taken from row order[i]; see `wireleak.common.measures.statistics.permutation.null_orders`.
    """
    a, b = _distances(x, y, 1.0)
    centred = _centred(a)
    null = tuple(_correlation(centred, _centred(b[np.ix_(order, order)])) for order in orders)
    return DistanceCorrelation(_correlation(centred, _centred(b)), _corrected(a, b), null)


def _distances(x: Rows, y: Rows, exponent: float) -> tuple[Doubles, Doubles]:
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"x and y need the same number of rows, at least 2, not {len(x)} and {len(y)}")
    if not 0 < exponent <= 2:
        raise ValueError(f"exponent: {exponent} is out of range; give more than 0 and at most 2")
    return _between(x) ** exponent, _between(y) ** exponent


def _between(rows: Rows) -> Doubles:
    """Euclidean distances (n, n) by the Gram matrix, which for wide rows is many times quicker than pair by pair."""
    flat = np.asarray(rows, np.float64).reshape(len(rows), -1)
    if not np.isfinite(flat).all():
        raise ValueError("distance correlation: a value is not finite; remove such rows")
    flat = flat - flat.mean(axis=0)
    gram = flat @ flat.T
    lengths = np.diag(gram)
    both = lengths + lengths[:, None]
    squared = both - 2 * gram
    # Rows that are equal come out as rounding error, of which there would be something to correlate.
    found: Doubles = np.sqrt(np.where(squared > 1e-14 * both, squared, 0.0))
    return found


def _centred(distances: Doubles) -> Doubles:
    means = distances.mean(axis=0)
    centred: Doubles = distances - means - means[:, None] + means.mean()
    return centred


def _correlation(a: Doubles, b: Doubles) -> float:
    variances = float(np.vdot(a, a)) * float(np.vdot(b, b))
    # Rounding may take a covariance that is 0 to either side of it.
    return float(np.sqrt(max(float(np.vdot(a, b)), 0.0) / np.sqrt(variances))) if variances > 0 else 0.0


def _corrected(a: Doubles, b: Doubles) -> float:
    n = len(a)
    if n < 4:
        raise ValueError(f"x and y have {n} rows; the bias-corrected distance correlation needs at least 4")
    u, v = _unbiased(a), _unbiased(b)
    variances = float(np.vdot(u, u)) * float(np.vdot(v, v))
    return float(np.vdot(u, v)) / float(np.sqrt(variances)) if variances > 0 else 0.0


def _unbiased(distances: Doubles) -> Doubles:
    n = len(distances)
    sums = distances.sum(axis=0)
    centred: Doubles = distances - (sums + sums[:, None]) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0.0)
    return centred
