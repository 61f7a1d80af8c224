"""A score with its interval, and what turns guesses into one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from wireleak.common.registry import Registry

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Kind = Literal["reconstruction", "text", "attribute", "member", "secret"]


@dataclass(frozen=True)
class Score:
    """A measure's value with a 95 % interval.

    Parameters
    ----------
    measure : str
        Its registry name.
    value, low, high : float
        The value and its interval: bootstrap over examples, or Student's t over seeds (`combine_seeds`).
        NaN where it is undefined (an AUC of labels that are all alike).
    n : int
        Examples scored.
    chance : float, optional
        What guessing without looking reaches, where that is known.
    """

    measure: str
    value: float
    low: float
    high: float
    n: int
    chance: float | None = None


@runtime_checkable
class Measure(Protocol):
    """Scores guesses against the truth.

    Attributes
    ----------
    name : str
        Registry name.
    applies_to : {"reconstruction", "text", "attribute", "member", "secret"}
        Reconstructions (text: of word numbers), and secrets read back, are float (n, *input_shape); guesses of an
        attribute or of membership are probabilities (n, classes).
    higher_leaks : bool
        Whether a higher value means that more leaked.
    smallest_image : int
        Shortest side in pixels of the images (n, channels, height, width) in [0, 1] it takes; 0: any array (n, ...).
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def applies_to(self) -> Kind: ...  # noqa: D102
    @property
    def higher_leaks(self) -> bool: ...  # noqa: D102
    @property
    def smallest_image(self) -> int: ...  # noqa: D102

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score `guess` against `truth`, row by row; `rng` draws the resamples.

        Raises
        ------
        ValueError
            Shapes differ, there are no rows, or a guess is not finite.
        """
        ...


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
        raise ValueError("there is no guess to score")
    if bad := int((~np.isfinite(guess.reshape(len(guess), -1))).any(1).sum()):
        raise ValueError(f"{bad} of {len(guess)} guesses are not finite")
