"""Scores that are kept with the guesses they belong to, so that a run that is resumed does not compute them again."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import BaseModel

import wireleak
from wireleak.common.files import write_atomically, write_json
from wireleak.lab.run.attack_folder import AttackFolder
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.job import AttackJob, attack_jobs
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.results import Row
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.study.schema import Study

Held = TypeVar("Held", bound=BaseModel)


def key_of(files: Iterable[Path], *words: str) -> str:
    """Return a hash of the contents of files, of some words, and of the code that scores."""
    whole = hashlib.sha256(_code().encode())
    for word in words:
        whole.update(hashlib.sha256(word.encode()).digest())
    for file in files:
        about = file.stat() if file.is_file() else None
        whole.update(hashlib.sha256().digest() if about is None else _digest(file, about.st_size, about.st_mtime_ns))
    return whole.hexdigest()


@lru_cache(maxsize=256)
def _digest(file: Path, size: int, changed: int) -> bytes:
    """Return the hash of a file's content; all attacks of a cell have the same truth, so it is read once."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def source_digest(*packages: str) -> str:
    """Return a hash of the names and contents of the modules of our packages."""
    root = Path(wireleak.__file__).parents[1]
    whole = hashlib.sha256()
    for path in sorted(path for package in packages for path in (root / package).rglob("*.py")):
        whole.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


@cache
def _code() -> str:
    """Return a hash of wireleak's source, and of the modules in which other packages define measures and targets."""
    files = set()
    for point in (*entry_points(group="wireleak.measures"), *entry_points(group="wireleak.targets")):
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            found = importlib.util.find_spec(point.module)
            files |= {Path(found.origin)} if found is not None and found.origin is not None else set()
    others = b"".join(hashlib.sha256(file.read_bytes()).digest() for file in sorted(files))
    return source_digest("wireleak") + hashlib.sha256(others).hexdigest()


def kept_scores(job: AttackJob, compute: Callable[[], list[Row]], *words: str) -> list[Row]:
    """Return the scores of an attack: those that were kept for these very guesses and truth, or new ones.

    Parameters
    ----------
    job : AttackJob
    compute : callable
        Computes the scores.
    *words : str
        Whatever else the scores depend on.
    """
    key = key_of(_files(job.cell, [job]), job.name, *words)
    return _kept(job.cell.scores(job.out.name), key, compute)


def kept_bounds(cell: Cell, jobs: Sequence[AttackJob], compute: Callable[[], list[Row]]) -> list[Row]:
    """Return the bounds of a cell's attacks: those that were kept for their guesses and truth, or new ones."""
    own = [job for job in jobs if job.cell == cell]
    return _kept(cell.scores("bounds"), key_of(_files(cell, own), *(job.name for job in own)), compute)


def kept_record(path: Path, key: str, kind: type[Held], compute: Callable[[], Held]) -> Held:
    """Return the record that `path` keeps for this key, or compute it and keep it there, as JSON."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        held = json.loads(path.read_text())
        if held["key"] == key:
            return kind.model_validate(held["record"])
    record = compute()
    write_json(path, {"key": key, "record": record.model_dump(mode="json")})
    return record


def _files(cell: Cell, jobs: Sequence[AttackJob]) -> list[Path]:
    """Return the files on which scores depend: guesses, their metadata, the study, the capture and the truth."""
    truth = sorted(path for path in cell.ledger.parent.glob("*") if path.is_file())
    folders = [AttackFolder(job.out) for job in jobs]
    guessed = [file for folder in folders for file in (folder.guesses, folder.meta)]
    return [*guessed, RunFolder(cell.run).study, cell.done, *truth]


def _kept(path: Path, key: str, compute: Callable[[], list[Row]]) -> list[Row]:
    if (rows := _read(path, key)) is None:
        rows = compute()
        _write(path, key, rows)
    return rows


def _write(path: Path, key: str, rows: Sequence[Row]) -> None:
    held = [(place, row.draws) for place, row in enumerate(rows) if row.draws is not None]
    arrays = {f"draws-{place}": draws for place, draws in held}
    text = json.dumps({"key": key, "rows": [row.model_dump_json() for row in rows]})
    buffer = io.BytesIO()
    np.savez(buffer, rows=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def _read(path: Path, key: str) -> list[Row] | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            held = json.loads(stored["rows"].tobytes())
            if held["key"] != key:
                return None
            rows = [Row.model_validate_json(row) for row in held["rows"]]
            return [row.drawn(stored.get(f"draws-{place}")) for place, row in enumerate(rows)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def mark_finished(folder: Path, cells: Sequence[Cell]) -> None:
    """Note that a run's results hold everything in its folder, so that the next `--resume` only shows them."""
    run = RunFolder(folder)
    write_json(run.finished, {"key": _content(run, cells)})


def is_finished(folder: Path, source: Path, study: Study, seeds: Seeds) -> bool:
    """Return whether the results hold everything in a run's folder, computed by the code of today.

    Parameters
    ----------
    folder : Path
    source : Path
        The study's file; a changed one is another study.
    study : Study
        With the seeds that are asked for.
    seeds : Seeds
    """
    run = RunFolder(folder)
    if not (run.finished.is_file() and run.results.is_file() and run.report.is_file()):
        return False
    if run.study.read_bytes() != source.read_bytes():
        return False
    # Only paths are asked of these cells, and those need no data.
    cells = [
        Cell(study, variant, seed, folder, (), 0, seeds)
        for variant in study.variants
        for seed in study.seeds_of(variant)
    ]
    return bool(json.loads(run.finished.read_text())["key"] == _content(run, cells))


def _content(run: RunFolder, cells: Sequence[Cell]) -> str:
    guesses = [job.guesses for cell in cells for job in attack_jobs(cell)]
    names = [cell.name for cell in cells]
    return key_of([run.study, run.results, *(cell.done for cell in cells), *guesses], *names)
