"""The base of every target: the thing that an attack guesses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.statistics.bootstrap import KEPT, combine_seeds, resamples
from wireleak.common.measures.statistics.score import Score
from wireleak.common.targets.sealed import Sealed

Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
# The attack's own guess under "", each baseline's under its name.
Guesses = Mapping[str, Array]
OWN, PERMUTED = "", "permuted"
Baseline = tuple[str, Callable[[], Array]]
Measures = Callable[[Array, npt.NDArray[Any], np.random.Generator], list[Score]]
Truth = TypeVar("Truth")
# Fits to permuted values that are resampled: a mean of more varies less with the victims, and takes longer to score.
RESAMPLED = 4


class Examples(Protocol):
    """The attacker's own examples.

    Attributes
    ----------
    inputs : float32 (n, *input_shape)
    labels : int64 (n,)
        Of the main task.
    attribute : int64 (n,) or None
        The private attribute under attack.
    classes : int
        Values of the attribute or label under attack; 0 where there is none.
    """

    @property
    def inputs(self) -> Array: ...  # noqa: D102
    @property
    def labels(self) -> Ints: ...  # noqa: D102
    @property
    def attribute(self) -> Ints | None: ...  # noqa: D102
    @property
    def classes(self) -> int: ...  # noqa: D102

    def without_copies(self) -> Self:
        """Leave out transformed copies."""
        ...

    def held_out(self) -> npt.NDArray[np.bool_]:
        """Mask (n,) of the rows that only validate."""
        ...


@dataclass(frozen=True)
class Pairs:
    """The attacker's own examples with their activations, and the victims' activations of the same shape.

    Parameters
    ----------
    own : Examples
    seen : float32 (n, ...)
        The activation of each of `own`.
    victims : float32 (m, ...)
    """

    own: Examples
    seen: Array
    victims: Array


@dataclass(frozen=True)
class Case:
    """One finished attack, in the form that the target's baselines need; the attacker knows everything in it.

    Parameters
    ----------
    own : Examples
        All that the attacker holds.
    count : int
        Rows of the guess.
    prior : callable
        The target's prior, `count` times.
    filled : callable
        Puts rows that were guessed in the victims' places, and the prior in all others.
    pairs : Pairs or None
        Given if the attacker has activations of its own.
    predictions : float32 (n, classes) or None
        The service's answers to the victims.
    guess : float32 or None
        The rows that the attack guessed; None where it saw nothing.
    shuffled : callable
        From rows that were guessed: every row of another victim. None where there is no other.
    permuted : callable
        The attack's guess after learning from permuted values of the attribute.
    report : callable
        Keeps facts about a baseline for meta.json.
    """

    own: Examples
    count: int
    prior: Callable[[], Array]
    filled: Callable[[Array], Array]
    pairs: Pairs | None
    predictions: Array | None
    guess: Array | None
    shuffled: Callable[[Array], Array] | None
    permuted: Callable[[], Array]
    report: Callable[[str, dict[str, float]], None]

    def shuffle(self) -> Iterator[Baseline]:
        """Yield the baseline "shuffled": the attack's guesses, each of another victim."""
        guess, shuffled = self.guess, self.shuffled
        if guess is not None and shuffled is not None:
            yield "shuffled", lambda: self.filled(shuffled(guess))


@dataclass(frozen=True)
class Scored:
    """One score of one guess.

    Parameters
    ----------
    target : str
        As the results name it, e.g. "input" or "slant-averaged".
    guess : str
        "" for the attack's own, else the name of the baseline, reader or bound.
    score : Score
    bound : bool
        Whether it is a theoretical bound.
    """

    target: str
    guess: str
    score: Score
    bound: bool = False


class Target(ABC, Generic[Truth]):
    """Something that an attack guesses. A subclass is found by its name once it is registered.

    The adversary's process calls `derived`, `classes`, `prior` and `baselines`, with what the attacker knows. The lab
    calls the others; only it holds a `Sealed`.

    Parameters
    ----------
    name : str
        As a study names it: the registry name, or the name of a private attribute.

    Attributes
    ----------
    name : str
        Registry name.
    guessed : str
        The target in words, for errors: "the input".
    rebuilds : bool
        Whether a guess is one of the serving victims' whole inputs: then it is compared with a guess from tensors that
        never crossed the wire, and with bounds on the error.
    participant : str or None
        The malicious participant without which there is nothing to guess.
    grants : str or None
        A file that the lab grants to every attack on this target, by its name in `granted.files`.
    """

    name: ClassVar[str]
    guessed: ClassVar[str]
    rebuilds: ClassVar[bool] = False
    participant: ClassVar[str | None] = None
    grants: ClassVar[str | None] = None

    def __init__(self, name: str = "") -> None:
        self.shown = name or self.name

    @property
    def attribute(self) -> str | None:
        """The private attribute that is guessed, if it is one."""
        return None

    def classes(self, task: int, attribute: int) -> int:
        """Return the number of values of what is guessed, from those of the task and of the attribute.

        Raises
        ------
        ValueError
            It is needed and not known.
        """
        return attribute

    def derived(self, inputs: Array) -> Ints | None:
        """Return the values (n,) of inputs (n, ...), where the target follows from inputs and no file holds it."""
        return None

    @abstractmethod
    def prior(self, own: Examples) -> Array:
        """Return the best guess without any observation, (1, ...), from examples without transformed copies."""

    def baselines(self, case: Case) -> Iterator[Baseline]:
        """Yield the name of each baseline and a function that makes its guess, in the order of the results."""
        yield from ()

    def senders(self, clients: int, *, participant: bool) -> list[int]:
        """Return the clients whose updates are attacked; with a `participant`, client 0 runs code of its own."""
        return list(range(1 if participant else 0, clients))

    def count(self, sealed: Sealed) -> int:
        """Return how many rows an attack must guess."""
        return len(sealed.units()) if sealed.federated else len(sealed.victims("y"))

    @abstractmethod
    def ground_truth(self, sealed: Sealed) -> Truth:
        """Read the truth from the sealed files."""

    def part(self, truth: Truth, rows: Ints) -> Truth | None:
        """Return the truth of some rows, for an attack that read only those; None: it is scored on all rows."""
        return None

    @abstractmethod
    def score(self, guesses: Guesses, truth: Truth, seed: int) -> list[Scored]:
        """Score every guess by every measure, the attack's own first."""

    def picture(self, guesses: Guesses, sealed: Sealed) -> tuple[Array, Guesses] | None:
        """Return the originals and the guesses as pictures; None where they make none."""
        return None


def score_each(target: str, guesses: Guesses, truth: npt.NDArray[Any], seed: int, measures: Measures) -> list[Scored]:
    """Score each guess with the same random stream; equal guesses are scored once."""
    rows: list[Scored] = []
    known: list[tuple[Array, Sequence[Score]]] = []
    for name, guess in guesses.items():
        # Equal guesses score equally: tensors in process are mostly the captured ones to the last bit.
        scores = next((scores for other, scores in known if np.array_equal(other, guess)), None)
        if scores is None:
            rng = np.random.default_rng(seed)
            scores = _over_draws(guess, truth, rng, measures) if name == PERMUTED else measures(guess, truth, rng)
            known.append((guess, scores))
        rows += [Scored(target, name, score) for score in scores]
    return rows


def _over_draws(guesses: Array, truth: npt.NDArray[Any], rng: np.random.Generator, measures: Measures) -> list[Score]:
    """Scores of a baseline that was drawn once (n, classes) or several times (draws, n, classes).

    Of several draws the mean, with its 95 % t-interval: the expected score of an attack that learnt nothing, not the
    score that one such attack may reach by luck.
    """
    if guesses.ndim == 2:
        return measures(guesses, truth, rng)
    each = []
    for place, guess in enumerate(guesses):
        with resamples(KEPT if place < RESAMPLED else 1):
            each.append(measures(guess, truth, rng))
    return [_mean_of_draws(scores) for scores in zip(*each, strict=True)]


def _mean_of_draws(scores: Sequence[Score]) -> Score:
    """Return the mean score; some of the draws say how it varies with the victims."""
    mean = combine_seeds(list(scores))
    some = [score for score in scores[:RESAMPLED] if score.draws is not None]
    draws = None
    if len(some) == len(scores[:RESAMPLED]):
        # All draws have the same resamples of the same rows.
        moved = [score.draws - score.value for score in some if score.draws is not None]
        draws = mean.value + np.mean(moved, axis=0)
    return replace(mean, n=scores[0].n, draws=draws, permutations=len(scores))
