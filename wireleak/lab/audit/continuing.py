"""Open the folder of an audit, or go on in the folder of an interrupted one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wireleak.common.files import write_atomically, write_json
from wireleak.lab.audit.sizes import Counts
from wireleak.lab.run.audit_folder import AuditFolder
from wireleak.lab.run.folders import new_folder
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.study.schema import StudyError

# Fields of a request that may change when an audit goes on.
_FREE = ("budget", "memory")


@dataclass(frozen=True)
class Progress:
    """An interrupted audit: its folder, and the sizes that were chosen when it began.

    Parameters
    ----------
    folder : Path
    cuts : tuple of int
    counts : Counts
    left_out : dict of int to str
    sample : int or None
        Images of a folder that were read.
    """

    folder: Path
    cuts: tuple[int, ...]
    counts: Counts
    left_out: dict[int, str]
    sample: int | None

    @classmethod
    def of(cls, folder: Path, request: Any) -> Progress:
        """Read an interrupted run's sizes.

        Raises
        ------
        StudyError
            The folder holds no such run, or it was started with other options.
        """
        path = AuditFolder(folder).request
        if not path.is_file():
            raise StudyError(f"--resume: {folder} is not the folder of an audit or defend run (no {path.name})")
        kept = json.loads(path.read_text())
        asked = json.loads(json.dumps(asdict(request), default=str))
        for name, value in asked.items():
            if name not in _FREE and kept["request"].get(name) != value:
                was = kept["request"].get(name)
                raise StudyError(
                    f"--resume: {folder} was started with {name} {was!r}, not {value!r}; give the same options"
                )
        counts = Counts(**{**kept["counts"], "notes": tuple(kept["counts"]["notes"])})
        left_out = {int(cut): reason for cut, reason in kept["left_out"].items()}
        return cls(folder.resolve(), tuple(kept["cuts"]), counts, left_out, kept["sample"])


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Have Ctrl-C name the folder in which the run can go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on with the same options and --resume {folder}") from None


def opened(out: Path, name: str, subject: Any, request: Any, progress: Progress | None) -> Path:
    """Return the folder of an interrupted run, or make a new one that another run can go on in.

    Raises
    ------
    StudyError
        The folder cannot be made.
    """
    if progress is not None:
        return progress.folder
    kept = {"cuts": subject.cuts, "counts": asdict(subject.counts), "left_out": subject.left_out}
    kept["sample"] = subject.options.get("sample")
    with new_folder(out, name) as folder:
        # The network must be trained on the examples that the run gives its clients.
        Seeds.given_or_drawn().write(AuditFolder(folder).secret)
        write_json(AuditFolder(folder).request, {"request": asdict(request), **kept})
    return folder


def keep(path: Path, study: str) -> Path:
    """Write a study to a file for the user, and return the path.

    Raises
    ------
    StudyError
        The file cannot be written.
    """
    try:
        write_atomically(path, study.encode())
    except OSError as error:
        raise StudyError(f"--out: cannot write {path}: {error.strerror}") from error
    return path


def slug(name: str) -> str:
    """Return `name` in the characters that a study's name may have."""
    return "".join(one if one.isascii() and one.isalnum() else "-" for one in name.lower()).strip("-") or "network"
