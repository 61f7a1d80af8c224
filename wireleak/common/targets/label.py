"""The labels of training examples."""

from __future__ import annotations

from collections.abc import Iterator

from wireleak.common.measures.scores.registry import score_attribute
from wireleak.common.targets import baselines
from wireleak.common.targets.registry import register
from wireleak.common.targets.sealed import Sealed
from wireleak.common.targets.target import Array, Baseline, Case, Examples, Guesses, Ints, Scored, Target, score_each


@register
class Label(Target[Ints]):
    """Labels of the examples that clients train on, in the order in which they cross the wire."""

    name = "label"
    guessed = "training labels"

    def classes(self, task: int, attribute: int) -> int:
        """Return the number of the task's classes."""
        if task < 2:
            raise ValueError("classes: an attack on training labels needs the task's number of classes; give 2 or more")
        return task

    def prior(self, own: Examples) -> Array:
        """Return the classes' frequencies in the surrogate, the best granted estimate of the public ones."""
        return baselines.frequencies(own.labels, own.classes)[None]

    def baselines(self, case: Case) -> Iterator[Baseline]:
        """Yield the majority and other examples' guesses."""
        yield "majority", case.prior
        yield from case.shuffle()

    def count(self, sealed: Sealed) -> int:
        """Return how often an example was sent."""
        return len(sealed.trained_labels())

    def ground_truth(self, sealed: Sealed) -> Ints:
        """Read the labels."""
        return sealed.trained_labels()

    def part(self, truth: Ints, rows: Ints) -> Ints:
        """Return some of the labels."""
        return truth[rows]

    def score(self, guesses: Guesses, truth: Ints, seed: int) -> list[Scored]:
        """Score probabilities."""
        return score_each(self.shown, guesses, truth, seed, score_attribute)
