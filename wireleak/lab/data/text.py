"""Text as numbers: words by a public hash, cut into passages of one length.

A word's number is `1 + crc32(word) % BUCKETS`; 0 pads. There is no vocabulary file, so none can tell the attacker which
words the victims use (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009). Words that
share a bucket are one word to every party.
"""

from __future__ import annotations

import html
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from wireleak.lab.data.dataset import DataError, Dataset, Floats, Ints

# `wireleak.common.models.zoo.lstm` has one embedding for each.
BUCKETS = 5000
_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+(?:[.,:]\d+)*|([^\s\w]|_)\1*")


def tokens(text: str) -> list[str]:
    """Lower-case words, numbers and runs of one punctuation mark, in order; HTML entities are resolved first."""
    plain = html.unescape(text).replace("’", "'").lower()
    return [found.group() for found in _TOKEN.finditer(plain)]


def passages(words: Sequence[str], length: int, most: int) -> Iterator[list[str]]:
    """The first `most` stretches of `length` words; a last one under a quarter of it is left out, unless it is all."""
    for start in range(0, min(len(words), length * most), length):
        stretch = list(words[start : start + length])
        if start == 0 or len(stretch) * 4 >= length:
            yield stretch


def numbered(texts: Sequence[Sequence[str]], length: int) -> Floats:
    """Word numbers as float32 (n, length), 0 behind the last word; words beyond `length` are left out."""
    x = np.zeros((len(texts), length), np.float32)
    for row, words in enumerate(texts):
        kept = words[:length]
        x[row, : len(kept)] = [number(word) for word in kept]
    return x


@cache
def number(word: str) -> int:
    """The word's number, 1 to `BUCKETS`."""
    return 1 + zlib.crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS


def check_sizes(dataset: str, length: int, most: int) -> None:
    """Refuse a passage length outside 4 to 1,024 words or fewer than one passage a text.

    Raises
    ------
    DataError
        One line that names the option.
    """
    if not isinstance(length, int) or not 4 <= length <= 1024:
        raise DataError(f"{dataset}: length is a number of words from 4 to 1024, not {length!r}")
    if not isinstance(most, int) or most < 1:
        raise DataError(f"{dataset}: passages is how many each text gives at most, 1 or more, not {most!r}")


def balanced(dataset: Dataset, attribute: str) -> Dataset:
    """As many examples of every task label with every value of `attribute`, the rest dropped at random.

    Then the task label tells nothing of the attribute, and a guess above chance is no guess by the task (Elazar and
    Goldberg, EMNLP 2018). Always the same examples are kept.

    Raises
    ------
    DataError
        No such attribute, or a task label that never occurs with one of its values.
    """
    values = dataset.attribute(attribute).values
    cells: list[Ints] = [
        np.flatnonzero((dataset.y == label) & (values == value))
        for label in range(len(dataset.classes))
        for value in range(len(dataset.attribute(attribute).classes))
    ]
    count = min(map(len, cells))
    if not count:
        raise DataError(f"{dataset.name}: some {dataset.task} never occurs with some {attribute}; leave out balance")
    rng = np.random.default_rng(0)
    return dataset.take(np.sort(np.concatenate([rng.permutation(cell)[:count] for cell in cells])))
