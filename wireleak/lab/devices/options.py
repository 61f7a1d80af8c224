"""Read the options of `wireleak export`, each from one word."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, get_args

from wireleak.common.registry import unknown
from wireleak.common.wire.channel import MAX_MESSAGE_BYTES
from wireleak.lab.devices.errors import ExportError
from wireleak.lab.devices.manifest import Kind

_Number = TypeVar("_Number", int, float)


def numbers(option: str, text: str, kind: Callable[[str], _Number], count: int | None = None) -> list[_Number]:
    """Read numbers that commas separate; an empty text holds none.

    Raises
    ------
    ExportError
        A part is no number, or there are not `count` of them.
    """
    try:
        read = [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ExportError(f"{option}: {text!r} is not a list of numbers; write them as 1,28,28") from None
    if count is not None and len(read) != count:
        raise ExportError(f"{option}: {text!r} holds {len(read)} numbers; give {count}")
    return read


def class_names(text: str) -> list[str]:
    """Read a number of classes, which then have numbers as names, or names that commas separate."""
    if text.strip().isdigit():
        return [str(k) for k in range(int(text))]
    return [name.strip() for name in text.split(",") if name.strip()]


def kind_named(text: str | None) -> Kind | None:
    """Read a kind of inputs.

    Raises
    ------
    ExportError
        There is no such kind.
    """
    known: tuple[Kind, ...] = get_args(Kind)
    for kind in known:
        if kind == text:
            return kind
    if text is not None:
        raise ExportError(f"--kind: {unknown('kind of input', text, known)}")
    return None


def padding(text: str | None) -> int | str | None:
    """Read a padding.

    Raises
    ------
    ExportError
        It is neither "powers" nor a number of bytes.
    """
    if text in (None, "powers"):
        return text
    if text is not None and text.isdigit() and 1 <= int(text) <= MAX_MESSAGE_BYTES:
        return int(text)
    raise ExportError(f'--pad: {text!r} is not a size; give bytes from 1 to {MAX_MESSAGE_BYTES}, or "powers"')
