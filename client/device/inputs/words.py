"""Lines of text as word or character numbers, by the rule in the manifest."""

from __future__ import annotations

import html
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from client.device.inputs.item import Floats, Item, checked


def numbered(
    name: str, lines: Iterable[str], kind: str, shape: tuple[int, ...], scaling: Mapping[str, Any]
) -> Iterator[Item]:
    """Yield an input for each line that holds a word; of a long line only what the encoder takes.

    Parameters
    ----------
    name : str
    lines : iterable of str
    kind : {"text", "characters"}
    shape : tuple of int
        (length,) words, or characters.
    scaling : mapping
        "pattern" and "buckets" of words, or the "alphabet".
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            read = _words if kind == "text" else _characters
            yield checked(f"{name}:{number}", read(line, shape[0], scaling), shape)


def _words(line: str, length: int, scaling: Mapping[str, Any]) -> Floats:
    """The first `length` words, each by a public hash; 0 pads behind them."""
    plain = html.unescape(line).replace("’", "'").lower()
    found = [match.group() for match in re.finditer(scaling["pattern"], plain)][:length]
    values = np.zeros(length, np.float32)
    values[: len(found)] = [
        1 + zlib.crc32(word.encode("utf-8", "surrogatepass")) % scaling["buckets"] for word in found
    ]
    return values


def _characters(line: str, length: int, scaling: Mapping[str, Any]) -> Floats:
    """The last `length` characters by their places in the alphabet, from 1; 0 pads before them."""
    alphabet = scaling["alphabet"]
    kept = "".join(character if character in alphabet else " " for character in line.lower())
    places = [1 + alphabet.index(character) for character in " ".join(kept.split())][-length:]
    values = np.zeros(length, np.float32)
    values[length - len(places) :] = places
    return values
