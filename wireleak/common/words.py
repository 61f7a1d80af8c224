"""Numbers with their nouns, and mistakes, in sentences for people."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

# Begins a line in which a process says how far it is.
PROGRESS = "progress: "
_FOLDERS = re.compile(r"(?<![\w.~])/(?:[^/\s'\":;,<>()]+/)+")


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number with the noun, or the noun and its verb, in the form that it needs.

    Parameters
    ----------
    number : int
        The number.
    one : str
        The form for 1.
    several : str, optional
        The form for every other number. By default `one` and an s.
    """
    return f"{number} {one if number == 1 else several or one + 's'}"


def decimal(value: float, form: str) -> str:
    """Write a number in a format such as ".3f", with a true minus sign, and none before a zero."""
    return f"{value:z{form}}".replace("-", "−")


def listed(names: Sequence[str]) -> str:
    """Join names as in a sentence: "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def printable(text: str, most: int = 256) -> str:
    r"""Return text from elsewhere so that it can be printed: no control character, one line, at most `most` characters.

    A name that crossed the wire may hold escape sequences of terminals, line ends, or halves of surrogate pairs that no
    encoding can write. They are shown as Python writes them, such as "\x1b".
    """
    if len(text) <= most and text.isprintable():
        return text
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:most])
    return shown if len(text) <= most else f"{shown}…"


def told(error: Exception) -> str:
    """Return a mistake in one line: of one that the system reports its words and its file, without its number."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split())


def without_folders(text: str) -> str:
    """Cut the folders of absolute paths from an error that crosses the wire: they may name the user."""
    for folder, short in ((os.getcwd(), "."), (os.path.expanduser("~"), "~")):  # noqa: PTH109, PTH111
        # These are known, so they may contain spaces.
        text = text.replace(f"{folder.rstrip('/')}/", f"{short}/")
    return _FOLDERS.sub("", text)
