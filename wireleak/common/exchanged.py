"""The files in which a curious server or participant keeps the weights of each round; attacks read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Moment = Literal["start", "end"]


def kept_file(folder: Path, server_round: int, moment: Moment) -> Path:
    """Return the safetensors file of the model with which a round began ("start"), or of a client's reply ("end")."""
    return folder / f"round-{server_round}-{moment}.safetensors"


def kept_files(folder: Path) -> Iterator[tuple[int, Moment, Path]]:
    """Yield round, moment and path of each file in a folder."""
    for path in sorted(folder.glob("round-*.safetensors")):
        _, number, moment = path.stem.split("-")
        yield int(number), "start" if moment == "start" else "end", path
