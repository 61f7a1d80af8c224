"""Cross-fitting: predict every row's label with the best reader that never saw the row."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wireleak.common.measures.readers.readers import (
    READERS,
    Doubles,
    Ints,
    Reader,
    Rows,
    fit_reader,
    rotation,
    standardiser,
)

CLIP = 1e-4


@dataclass(frozen=True)
class Reading:
    """Held-out predictions for one set of labels.

    Parameters
    ----------
    labels : int64 (n,)
        The true labels.
    probabilities : float64 (n, classes)
        Each row's, from a reader that was fitted without its fold (and, with groups, without its group).
    frequencies : float64 (n, classes)
        The labels' among the rows that its reader was fitted on.
    """

    labels: Ints
    probabilities: Doubles
    frequencies: Doubles

    @property
    def evidence(self) -> Doubles:
        """Probabilities over frequencies (n, classes): what ranks rows of different folds alike.

        Where a fold holds more of a class, the others hold less; by probability alone the pooled null would fall below
        chance.
        """
        return self.probabilities / self.frequencies

    @property
    def gains(self) -> Doubles:
        """Each row's bits (n,): log2 of its label's probability over its label's frequency."""
        return np.asarray(np.log2(self.evidence[np.arange(len(self.labels)), self.labels]), np.float64)

    @property
    def bits(self) -> float:
        """V-information; negative where the reader does worse than its prior, and left so."""
        return float(self.gains.mean())


class Part:
    """One fold: rows to fit on, rows to choose on, rows held out."""

    def __init__(self, flat: Rows, fitting: Ints, choosing: Ints, held: Ints, classes: int, seed: int) -> None:
        self.fitting, self.choosing, self.held = fitting, choosing, held
        self._classes, self._seed = classes, seed
        self._plain = standardiser(flat[fitting])(flat)
        self._rotated = rotation(self._plain[fitting])(self._plain)

    def choose(self, labels: Ints, family: str | None) -> tuple[str, Doubles]:
        """The family with the least cross-entropy on the validation rows, and its guess (held, classes)."""
        found = [(*self._try(reader, labels), reader.family) for reader in READERS if family in (None, reader.family)]
        _, guess, best = min(found, key=lambda one: one[0])
        return best, guess

    def _try(self, reader: Reader, labels: Ints) -> tuple[float, Doubles]:
        rows, truth = self._rotated if reader.rotated else self._plain, labels[self.choosing]
        fitted = fit_reader(reader, rows[self.fitting], labels[self.fitting], self._classes, self._seed)
        loss = -np.log(_clipped(fitted(rows[self.choosing]))[np.arange(len(truth)), truth]).mean()
        return float(loss), _clipped(fitted(rows[self.held]))

    def prior(self, labels: Ints) -> Doubles:
        """Frequencies of the labels among the fitting rows (classes,)."""
        return _clipped(np.bincount(labels[self.fitting], minlength=self._classes) / len(self.fitting))


def read_labels(
    parts: Sequence[Part], labels: Ints, families: Sequence[str | None] = ()
) -> tuple[Reading, tuple[str, ...]]:
    """Every row's held-out guess; in each fold of the family given, or of the best."""
    guesses = np.empty((len(labels), int(labels.max()) + 1))
    frequencies = np.empty_like(guesses)
    chosen = []
    for part, family in zip(parts, families or [None] * len(parts), strict=True):
        best, guesses[part.held] = part.choose(labels, family)
        frequencies[part.held] = part.prior(labels)
        chosen.append(best)
    return Reading(labels, guesses, frequencies), tuple(chosen)


def _clipped(probabilities: Doubles) -> Doubles:
    inside = np.clip(probabilities, CLIP, 1 - CLIP)
    return np.asarray(inside / inside.sum(axis=-1, keepdims=True), np.float64)


def split_rows(labels: Ints, groups: Ints | None, folds: int, seed: int) -> list[tuple[Ints, Ints, Ints]]:
    """Rows to fit, to choose and to judge on, one triple a fold."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold

    def split(rows: Ints, parts: int) -> list[tuple[Ints, Ints]]:
        held = None if groups is None else groups[rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class rarer than the folds is judged all the same
            found = list(kind(parts, shuffle=True, random_state=seed).split(rows, labels[rows], held))
        return [(rows[rest], rows[part]) for rest, part in found]

    triples = []
    for rest, held in split(np.arange(len(labels)), folds):
        fitting, choosing = split(rest, 4 if groups is None else min(4, len(np.unique(groups[rest]))))[0]
        triples.append((fitting, choosing, held))
    return triples
