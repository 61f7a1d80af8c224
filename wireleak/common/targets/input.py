"""Whole inputs: those that victims' devices sent, or those behind each update."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from wireleak.common.measures.scores.matching import match
from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.measures.scores.registry import score_reconstruction
from wireleak.common.targets import baselines
from wireleak.common.targets.reconstruction import linear_codes, reconstruction_baselines
from wireleak.common.targets.registry import register
from wireleak.common.targets.sealed import Sealed
from wireleak.common.targets.target import (
    Array,
    Baseline,
    Case,
    Examples,
    Guesses,
    Ints,
    Scored,
    Target,
    score_each,
)

# Victims' inputs that the attacker does not hold itself, where a study repeats a published overlap.
UNSEEN = "input-unseen"
# Measures that verdicts and comparisons rest on.
_JUDGING = ("mse", "psnr", "reid")
_DESCRIBED: ContextVar[Collection[str] | None] = ContextVar("described", default=None)


@dataclass(frozen=True)
class Inputs:
    """The true inputs.

    Parameters
    ----------
    x : float32 (n, *input_shape)
    unit : int64 (n,) or None
        The update that each is behind, in federated training; within an update there is no order.
    shared : int64
        Rows that the attacker holds itself.
    own : float32 (m, *input_shape)
        The attacker's inputs.
    floats : int
        Floats of one activation.
    """

    x: Array
    unit: Ints | None
    shared: Ints
    own: Array
    floats: int


@register
class Input(Target[Inputs]):
    """Whole inputs."""

    name = "input"
    guessed = "the input"
    rebuilds = True

    def prior(self, own: Examples) -> Array:
        """Return the mean input; of texts, their commonest words."""
        return baselines.mean_input(own.inputs)

    def baselines(self, case: Case) -> Iterator[Baseline]:
        """Yield the mean, an empty input, linear and nearest decoders, and other victims' reconstructions."""
        yield from reconstruction_baselines(case)

    def count(self, sealed: Sealed) -> int:
        """Return the number of inputs."""
        return sum(map(len, sealed.behind("y"))) if sealed.federated else len(sealed.victims("y"))

    def ground_truth(self, sealed: Sealed) -> Inputs:
        """Read the inputs, and what the baseline "pca" and the overlap need."""
        if sealed.federated:
            parts = sealed.behind("x")
            unit = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            return Inputs(np.concatenate(parts), unit, np.zeros(0, np.int64), np.zeros(0, np.float32), 0)
        return Inputs(sealed.victims("x"), None, sealed.shared(), sealed.surrogate("x"), sealed.floats)

    def part(self, truth: Inputs, rows: Ints) -> Inputs:
        """Return some of the inputs."""
        return replace(truth, x=truth.x[rows], shared=np.flatnonzero(np.isin(rows, truth.shared)))

    def score(self, guesses: Guesses, truth: Inputs, seed: int) -> list[Scored]:
        """Score all reconstructions, and separately those of inputs that the attacker does not hold."""
        if truth.unit is not None:
            return score_each(self.shown, _matched(guesses, truth), truth.x, seed, score_reconstruction)
        guesses = dict(guesses) | linear_codes(truth.own, truth.x, truth.floats)
        rows = _scored(self.shown, guesses, truth.x, seed)
        unseen = np.setdiff1d(np.arange(len(truth.x)), truth.shared)
        if len(truth.shared) and len(unseen):
            parts = {name: guess[unseen] for name, guess in guesses.items()}
            rows += _scored(UNSEEN, parts, truth.x[unseen], seed)
        return rows

    def picture(self, guesses: Guesses, sealed: Sealed) -> tuple[Array, Guesses] | None:
        """Return the inputs and their reconstructions; the numbers of words make no picture."""
        truth = self.ground_truth(sealed)
        if are_numbered(truth.x):
            return None
        return truth.x, guesses if truth.unit is None else _matched(guesses, truth)


@contextmanager
def described(names: Collection[str] | None) -> Iterator[None]:
    """Take measures of quality only of the guesses of these names; None: of all.

    Such measures (SSIM, distance of features) cost seconds for each guess of a few large pictures. Those that judge a
    reconstruction are taken of every guess.
    """
    token = _DESCRIBED.set(names)
    try:
        yield
    finally:
        _DESCRIBED.reset(token)


def _scored(target: str, guesses: Guesses, truth: Array, seed: int) -> list[Scored]:
    """Score each guess by every measure, or by those that judge it."""
    names = _DESCRIBED.get()
    if names is None or are_numbered(truth):
        return score_each(target, guesses, truth, seed, score_reconstruction)
    whole = {name: guess for name, guess in guesses.items() if name in names}
    rest = {name: guess for name, guess in guesses.items() if name not in names}
    judged = partial(score_reconstruction, only=_JUDGING)
    rows = score_each(target, whole, truth, seed, score_reconstruction) + score_each(target, rest, truth, seed, judged)
    order = list(guesses)
    return sorted(rows, key=lambda row: order.index(row.guess))


def _matched(guesses: Guesses, truth: Inputs) -> dict[str, Array]:
    """The guesses of each update in the order that fits its inputs best: an update has no order."""
    rows = [truth.unit == unit for unit in np.unique(truth.unit)] if truth.unit is not None else []
    return {
        name: np.concatenate([guess[row][match(guess[row], truth.x[row])] for row in rows])
        for name, guess in guesses.items()
    }
