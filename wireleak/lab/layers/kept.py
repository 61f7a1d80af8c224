"""Measurements that are kept while others are made, so that an interrupted `wireleak layers` can go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wireleak.common.files import write_atomically
from wireleak.lab.study.schema import StudyError


class Kept:
    """Figures by the name of their measurement, in a file that grows by one line for each.

    Parameters
    ----------
    path : Path
        The file.
    asked : dict
        What was asked, by option.
    resume : bool
        Read the figures of an interrupted call; otherwise begin anew.

    Attributes
    ----------
    figures : dict of str to list

    Raises
    ------
    StudyError
        The interrupted call asked for something else.
    """

    def __init__(self, path: Path, asked: dict[str, Any], resume: bool) -> None:
        self._path = path
        first = json.dumps({"asked": asked}, default=str)
        self.figures: dict[str, list[dict[str, Any]]] = {}
        lines = path.read_text().splitlines() if resume and path.is_file() else []
        if lines and lines[0] != first:
            raise StudyError(f"--resume: {_other(lines[0], first)}; give the same options, or leave out --resume")
        for line in lines[1:]:
            try:
                self.figures |= json.loads(line)
            except ValueError:  # the last line, where the process was killed while it wrote
                break
        whole = [first, *(json.dumps({name: held}) for name, held in self.figures.items())]
        write_atomically(path, ("\n".join(whole) + "\n").encode())

    def add(self, name: str, figures: list[dict[str, Any]]) -> None:
        """Keep the figures of a measurement."""
        self.figures[name] = figures
        with self._path.open("a") as file:
            file.write(json.dumps({name: figures}, default=float) + "\n")

    def end(self) -> None:
        """Remove the file, once all figures are elsewhere."""
        self._path.unlink()


def _other(kept: str, now: str) -> str:
    """Say in which options two calls differ."""
    try:
        before, after = json.loads(kept)["asked"], json.loads(now)["asked"]
        differ = [
            f"{name} {before.get(name)} (now {value})" for name, value in after.items() if before.get(name) != value
        ]
    except (ValueError, KeyError, AttributeError):
        return "what the interrupted call kept cannot be read"
    return f"the interrupted call had {', '.join(differ)}"
