"""Text as numbers: words by a public hash, in passages of one length.

A word's number is `1 + crc32(word) % BUCKETS`; 0 pads. There is no vocabulary file that could tell the attacker which
words the victims use (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009). No party can
distinguish words that share a bucket.
"""

from __future__ import annotations

import html
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from wireleak.lab.data.dataset import DataError, Dataset, Floats, Ints

# The embedding of `wireleak.common.models.zoo.lstm` has one row for each.
BUCKETS = 5000
# A word, a number, or a run of one punctuation mark; the manifest of an exported encoder repeats it.
TOKEN = r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+(?:[.,:]\d+)*|([^\s\w]|_)\1*"
_TOKEN = re.compile(TOKEN)


def tokens(text: str) -> list[str]:
    """Split a text into lower-case words, numbers and runs of one punctuation mark, after resolving HTML entities."""
    plain = html.unescape(text).replace("’", "'").lower()
    return [match.group() for match in _TOKEN.finditer(plain)]


def passages(words: Sequence[str], length: int, most: int) -> Iterator[list[str]]:
    """Yield at most `most` passages of `length` words.

    A last passage shorter than a quarter of that is dropped, unless it is the only one.
    """
    for start in range(0, min(len(words), length * most), length):
        passage = list(words[start : start + length])
        if start == 0 or len(passage) * 4 >= length:
            yield passage


def numbered(texts: Sequence[Sequence[str]], length: int) -> Floats:
    """Return word numbers as float32 (n, length), padded with 0; words beyond `length` are dropped."""
    x = np.zeros((len(texts), length), np.float32)
    for row, words in enumerate(texts):
        kept = words[:length]
        x[row, : len(kept)] = [number(word) for word in kept]
    return x


@cache
def number(word: str) -> int:
    """Return the word's number, 1 to `BUCKETS`."""
    return 1 + zlib.crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS


def check_sizes(dataset: str, length: int, most: int) -> None:
    """Check that passages have 4 to 1,024 words and that a text may give at least one.

    Raises
    ------
    DataError
        One line that names the option.
    """
    if not isinstance(length, int) or not 4 <= length <= 1024:
        raise DataError(f"{dataset}.length: must be a number of words from 4 to 1024, not {length!r}")
    if not isinstance(most, int) or most < 1:
        raise DataError(f"{dataset}.passages: must be a number of passages per text, 1 or more, not {most!r}")


def balanced(dataset: Dataset, attribute: str) -> Dataset:
    """Keep equally many examples of every task label with every value of `attribute`; drop the rest at random.

    Then the attribute is independent of the task label, so no guess above chance can come from the task (Elazar and
    Goldberg, EMNLP 2018). The same examples are kept every time.

    Raises
    ------
    DataError
        The attribute is unknown, or a task label never occurs with one of its values.
    """
    values = dataset.attribute(attribute).values
    cells: list[Ints] = [
        np.flatnonzero((dataset.y == label) & (values == value))
        for label in range(len(dataset.classes))
        for value in range(len(dataset.attribute(attribute).classes))
    ]
    count = min(map(len, cells))
    if not count:
        raise DataError(
            f"{dataset.name}.balance: some value of {dataset.task} never occurs with some value of {attribute}; "
            "remove balance"
        )
    rng = np.random.default_rng(0)
    return dataset.take(np.sort(np.concatenate([rng.permutation(cell)[:count] for cell in cells])))
