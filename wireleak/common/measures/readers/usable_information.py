"""V-information: how many bits about a label a reader of limited means can use.

Xu et al., "A Theory of Usable Information under Computational Constraints", ICLR 2020, as Mo et al. (arXiv 2010.08762)
measure a layer: I = H(p|nothing) - H(p|z), each the cross-entropy of the best reader in a family. Their text fixes
neither family nor split; here the reader is the best of ridge logistic regression, a perceptron of 64 hidden units and
a random forest with isotonic calibration, chosen on a validation split and judged on rows that it never saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.readers.readers import Ints, Rows, standardiser
from wireleak.common.measures.readers.reading import Part, Reading, read_labels, split_rows
from wireleak.common.measures.statistics.permutation import null_orders
from wireleak.common.memory import blocks


@dataclass(frozen=True)
class UsableInformation:
    """A reading with its ceiling and its null distribution.

    Parameters
    ----------
    reading : Reading
        Of the real labels.
    entropy : float
        H(p|nothing), bits: held-out cross-entropy of the frequencies among fitting rows.
    chosen : tuple of str
        The family chosen in each fold.
    null : tuple of Reading
        Readings of labels in random order by the same readers.
    """

    reading: Reading
    entropy: float
    chosen: tuple[str, ...]
    null: tuple[Reading, ...]

    @property
    def bits(self) -> float:
        """V-information of the real labels."""
        return self.reading.bits

    @property
    def share(self) -> float:
        """I / H(p): the usable part of the label's entropy."""
        return self.bits / self.entropy

    @property
    def family(self) -> str:
        """The family chosen in most folds."""
        return Counter(self.chosen).most_common(1)[0][0]


def usable_information(
    features: npt.NDArray[np.floating],
    labels: Ints,
    *,
    groups: Ints | None = None,
    permutations: int = 20,
    dimension: int | None = None,
    folds: int = 3,
    seed: int = 0,
) -> UsableInformation:
    """V-information of `features` about `labels`, cross-fitted.

    In each fold a quarter of the other rows chooses family and setting, and the rest fits it. Every draw of the null
    chooses the setting anew, but keeps the family, as all families would cost it several times as much.

    Parameters
    ----------
    features : (n, ...)
        One row an example.
    labels : int64 (n,)
        Class indices from 0.
    groups : int64 (n,), optional
        Group of each row, such as its person: no group is both fitted and judged on.
    permutations : int
        Draws of the null.
    dimension : int, optional
        Project wider features at random to so many, so that no layer wins by its width.
    folds : int
        Parts of the rows, each held out once.
    seed : int
        Of splits, projection, readers and permutations.

    Raises
    ------
    ValueError
        Lengths differ, the label does not vary, or there are too few rows or groups.
    """
    flat = np.asarray(features, np.float32).reshape(len(features), -1)
    _check(flat, labels, groups, folds)
    rng = np.random.default_rng(seed)
    flat = flat if dimension is None else project(flat, dimension, rng)
    classes = int(labels.max()) + 1
    parts = [Part(flat, *rows, classes, seed) for rows in split_rows(labels, groups, folds, seed)]
    reading, chosen = read_labels(parts, labels)
    null = [read_labels(parts, labels[order], chosen)[0] for order in null_orders(labels, groups, permutations, rng)]
    entropy = -np.log2(reading.frequencies[np.arange(len(labels)), labels]).mean()
    return UsableInformation(reading, float(entropy), chosen, tuple(null))


def project(flat: Rows, dimension: int, rng: np.random.Generator) -> Rows:
    """Random Gaussian projection of standardised (n, d) to (n, dimension); narrower features stay as they are."""
    if flat.shape[1] <= dimension:
        return flat
    projected = np.zeros((len(flat), dimension), np.float32)
    largest = max((float(flat[:, part].std(axis=0).max()) for part in _parts(flat, dimension)), default=0.0)
    for part in _parts(flat, dimension):
        matrix = rng.normal(0, dimension**-0.5, (part.stop - part.start, dimension)).astype(np.float32)
        projected += standardiser(flat[:, part], largest)(flat[:, part]) @ matrix
    return projected


def _parts(flat: Rows, dimension: int) -> Iterator[slice]:
    return blocks(flat.shape[1], 8 * (len(flat) + dimension))


def _check(flat: Rows, labels: Ints, groups: Ints | None, folds: int) -> None:
    if labels.shape != (len(flat),) or (groups is not None and groups.shape != labels.shape):
        raise ValueError(f"labels: shape {labels.shape} for {len(flat)} rows of features; give one label per row")
    if len(np.unique(labels)) < 2:
        raise ValueError("labels: every row has the same label; give at least two values")
    units = len(flat) if groups is None else len(np.unique(groups))
    if units < 2 * folds:
        kind = "rows" if groups is None else "groups"
        raise ValueError(
            f"folds: {units} {kind} are too few for {folds} folds with validation; give {2 * folds} or more"
        )
