"""The base of every measure, which scores guesses against ground truth, and the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.quantities.quantity import Quantity
from wireleak.common.measures.statistics.score import Floats, Score
from wireleak.common.registry import Registry

GuessKind = Literal["reconstruction", "text", "attribute", "member", "secret"]


@dataclass(frozen=True, kw_only=True)
class Measure(Quantity, ABC):
    """A quantity that scores guesses against the truth. A subclass sets its fields, and is called.

    Parameters
    ----------
    applies_to : {"reconstruction", "text", "attribute", "member", "secret"}
        Reconstructions (text: of word numbers), and secrets read back, are float (n, *input_shape); guesses of an
        attribute or of membership are probabilities (n, classes).
    smallest_image : int
        Shortest side in pixels of the images (n, channels, height, width) in [0, 1] it takes; 0: any array (n, ...).
    stream : str
        Name that seeds the resamples; if empty, the measure's own. A renamed measure keeps its old results this way.
    """

    applies_to: GuessKind
    smallest_image: int = 0
    stream: str = ""

    @abstractmethod
    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score `guess` against `truth`, row by row; `rng` draws the resamples.

        Raises
        ------
        ValueError
            Shapes differ, there are no rows, or a guess is not finite.
        """


_Made = TypeVar("_Made", bound=Callable[[], Measure])


def register(measure: _Made) -> _Made:
    """Register a measure's class, made with its default options, under its name."""
    made = measure()
    MEASURES.add(made.name, made, measure)
    return measure


MEASURES: Registry[Measure] = Registry(
    "measure", "wireleak.measures", "wireleak.common.measures.scores", adopt=register
)


def are_numbered(inputs: npt.NDArray[np.generic]) -> bool:
    """Whether inputs (n, …) can only be the word numbers of texts: one axis of whole numbers, some of them above 1."""
    if inputs.ndim != 2:
        return False
    values = np.asarray(inputs, np.float64)
    return bool(values.max(initial=0) > 1 and (values == np.round(values)).all())


def check_reconstruction(guess: Floats, truth: npt.NDArray[np.generic]) -> None:
    """Raise ValueError unless both are (n, ...) of one shape, n > 0, and the guess is finite."""
    if guess.shape != truth.shape:
        raise ValueError(f"guess {guess.shape} and truth {truth.shape} differ in shape")
    _check_rows(guess)


def check_probabilities(guess: Floats, truth: npt.NDArray[np.generic]) -> None:
    """Raise ValueError unless the guess is finite (n, classes) and the truth holds n labels below `classes`."""
    if guess.ndim != 2 or guess.shape[1] < 2 or truth.shape != guess.shape[:1]:
        raise ValueError(f"guess {guess.shape} must be (n, classes) and truth {truth.shape} (n,)")
    _check_rows(guess)
    if truth.min() < 0 or truth.max() >= guess.shape[1]:
        raise ValueError(f"truth holds labels outside 0..{guess.shape[1] - 1}")


def _check_rows(guess: Floats) -> None:
    if not len(guess):
        raise ValueError("guess: it has no rows; give at least one")
    if bad := int((~np.isfinite(guess.reshape(len(guess), -1))).any(1).sum()):
        raise ValueError(f"guess: {bad} of {len(guess)} rows are not finite")
