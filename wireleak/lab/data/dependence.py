"""Dependence of each private attribute on the task label: leakage that follows from the task itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.lab.data.dataset import Dataset, Ints


@dataclass(frozen=True)
class Dependence:
    """Dependence of one attribute on the task label.

    `cramers_v` is bias-corrected (Bergsma 2013), in [0, 1]; `p` is the p-value of the chi-squared test of
    independence; `mutual_information_bits` is the plug-in estimate, biased upwards by about (r-1)(c-1)/(2 n ln 2);
    `n` counts examples.
    """

    attribute: str
    cramers_v: float
    mutual_information_bits: float
    p: float = math.nan
    n: int = 0


def dependence(dataset: Dataset) -> list[Dependence]:
    """Measure how every attribute of `dataset` depends on its task label; one row per attribute."""
    return [_row(a.name, a.values, dataset.y) for a in dataset.attributes.values()]


def contingency(first: Ints, second: Ints) -> npt.NDArray[np.float64]:
    """Return the counts (values of first, values of second) of the values that occur."""
    _, rows = np.unique(first, return_inverse=True)
    _, columns = np.unique(second, return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1.0)
    return table


def _row(name: str, values: Ints, task: Ints) -> Dependence:
    from scipy.special import chdtrc  # the chi-squared distribution's tail; scipy.stats takes a second to import

    table = contingency(values, task)
    n = table.sum()
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / n
    statistic = float(((table - expected) ** 2 / expected).sum())
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    seen = table > 0
    bits = float((table[seen] / n * np.log2(table[seen] / expected[seen])).sum())
    p = float(chdtrc(freedom, statistic)) if freedom else 1.0
    return Dependence(name, _corrected_v(statistic, table.shape, n), max(bits, 0.0), p, len(task))


def _corrected_v(statistic: float, shape: tuple[int, ...], n: float) -> float:
    # Bergsma, "A bias-correction for Cramer's V and Tschuprow's T", 2013.
    rows, columns = shape
    if min(rows, columns) < 2 or n < 2:
        return 0.0
    phi = max(0.0, statistic / n - (rows - 1) * (columns - 1) / (n - 1))
    rows_ = rows - (rows - 1) ** 2 / (n - 1)
    columns_ = columns - (columns - 1) ** 2 / (n - 1)
    return float(min(1.0, np.sqrt(phi / (min(rows_, columns_) - 1))))
