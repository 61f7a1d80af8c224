"""How many of a text's words were found, in any order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.measure import GuessKind, Measure, check_reconstruction, register
from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.measures.statistics.score import Doubles, Floats, Score


def word_sets(texts: npt.NDArray[np.generic], words: int) -> npt.NDArray[np.bool_]:
    """Which words each text holds: bool (n, words + 1) of word numbers (n, length); column 0, padding, is False."""
    numbers = np.round(np.asarray(texts, np.float64)).astype(np.int64)
    held = np.zeros((len(numbers), words + 1), bool)
    held[np.arange(len(numbers))[:, None], np.clip(numbers, 0, words)] = True
    held[:, 0] = False
    return held


def set_f1(guess: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> Doubles:
    """F1 of each row's set, float64 (n,), of two bool arrays (n, words); 1 where both are empty."""
    sizes = guess.sum(1) + truth.sum(1)
    return np.asarray(np.where(sizes > 0, 2 * (guess & truth).sum(1) / np.maximum(sizes, 1), 1.0))


@register
@dataclass(frozen=True, kw_only=True)
class WordsFound(Measure):
    """Mean over texts of the F1 of the set of words guessed against the set it holds; order and padding do not count.

    Judge it beside a guess of the commonest words, the same for every text: those are in most texts.

    References
    ----------
    Song and Raghunathan, "Information Leakage in Embedding Models", CCS 2020, section 3, who print precision, recall
    and F1 of sets of words.
    """

    name: str = "words-found"
    label: str = "Words found"
    meaning: str = "F1 of the guessed set of words against the set of the text's words; order does not count"
    low: float = 0.0
    high: float = 1.0
    margin: float = 0.05
    order: int = 10
    applies_to: GuessKind = "text"

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score word numbers (n, length)."""
        check_reconstruction(guess, truth)
        words = int(np.round(np.maximum(guess.max(), np.asarray(truth, np.float64).max())))
        return mean_score(self.name, set_f1(word_sets(guess, words), word_sets(truth, words)), rng)
