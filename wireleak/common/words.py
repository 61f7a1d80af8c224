"""Numbers with their nouns, in sentences for people."""

from __future__ import annotations


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
