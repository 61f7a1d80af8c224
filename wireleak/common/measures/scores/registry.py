"""Measures by name: ours, and those that other packages offer as entry points `wireleak.measures`."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.quantities.quantity import Quantity
from wireleak.common.measures.quantities.reported import REPORTED
from wireleak.common.measures.scores.measure import MEASURES, GuessKind, Measure, are_numbered
from wireleak.common.measures.statistics.score import Floats, Score


def names(applies_to: GuessKind | None = None) -> list[str]:
    """Names of the registered measures, all or of one kind."""
    return [name for name, one in MEASURES.all().items() if applies_to in (None, one.applies_to)]


def get(name: str) -> Measure:
    """Return the measure called `name`; ValueError lists them where there is none."""
    return MEASURES.get(name)


def quantity(name: str) -> Quantity:
    """Return how to read the quantity called `name`; an unknown one has its name for a label, and leaks when high."""
    known = REPORTED.get(name) or MEASURES.all().get(name)
    return known or Quantity(name=name, label=name, meaning=name)


def column_order(name: str) -> tuple[int, str]:
    """Sort key for the columns of a table: known quantities by their own order, then the others by name."""
    return quantity(name).order, name


def score_reconstruction(
    guess: Floats, truth: Floats, rng: np.random.Generator, only: Sequence[str] | None = None
) -> list[Score]:
    """Score reconstructions (n, *input_shape) by every measure of that kind, in order of name.

    Measures of images skip what is no image, or too small a one for them. Rows of whole numbers (n, length) are texts,
    which have measures of their own instead: the numbers of words are names, and not amounts. `only` names the measures
    to take. A measure's resamples depend on `rng` and its name, not on which others are taken.

    Raises
    ------
    ValueError
        Unknown measure, or one of attributes; shapes that differ; a guess that is not finite.
    """
    side = min(truth.shape[2:]) if truth.ndim == 4 else 0
    is_text = only is None and are_numbered(truth)
    taken = [m for m in _chosen("text" if is_text else "reconstruction", only) if m.smallest_image <= side]
    return _apply(taken, guess, truth, rng)


def score_attribute(
    probabilities: Floats,
    labels: npt.NDArray[np.int64],
    rng: np.random.Generator,
    only: Sequence[str] | None = None,
) -> list[Score]:
    """Score probabilities (n, classes) against labels (n,) by every measure of attributes; else as for images."""
    return _apply(_chosen("attribute", only), probabilities, labels, rng)


def _apply(
    measures: Sequence[Measure], guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator
) -> list[Score]:
    base = int(rng.integers(2**63))
    return [m(guess, truth, np.random.default_rng([base, zlib.crc32((m.stream or m.name).encode())])) for m in measures]


def _chosen(kind: GuessKind, only: Sequence[str] | None) -> list[Measure]:
    chosen = [get(name) for name in (names(kind) if only is None else only)]
    for measure in chosen:
        if measure.applies_to != kind:
            raise ValueError(f"measure: {measure.name} scores {measure.applies_to}, not {kind}")
    return chosen
