"""Errors of the thin device, each one line for the user."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class DeviceError(Exception):
    """The device cannot go on because of its files, options or head; the message is one line."""

    status = 2


class HeadAwayError(DeviceError):
    """The head cannot be reached any longer; unanswered inputs stay in the queue."""

    status = 1


class QueueError(DeviceError):
    """The queue cannot be written, such as on a full disk; what it held is still there."""

    status = 1


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Explain that nothing is called `name`, and name the nearest known names and all of them."""
    names = list(known)
    near = get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}? C" if near else "c"
    return f"no {kind} called {name!r}; {hint}hoose one of {', '.join(names)}"


def one_line(error: object) -> str:
    """Return an error's text as one line."""
    return " ".join(str(error).split())
