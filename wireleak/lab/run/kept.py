"""The captures of a cell after its attacks: as recorded, compressed or dropped, with a record of each."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from wireleak.common.files import files_below, replacing, write_json
from wireleak.lab.run.cell import UNTRAINED, Cell
from wireleak.lab.run.job import attack_jobs
from wireleak.lab.run.layout import CellPaths, compressed, link_of
from wireleak.lab.study.schema import StudyError

TRAINING = "train-"
# Activations compress to the same size at every level; the lowest one takes a third of the time.
_LEVEL = 1
_PIECE = 1 << 20


@dataclass(frozen=True)
class Kept:
    """A capture that is no longer as it was recorded.

    Parameters
    ----------
    link : str
    recorded, kept : int
        Bytes as recorded and as kept; 0 if it was dropped.
    """

    link: str
    recorded: int
    kept: int


def kept_captures(cell: CellPaths) -> list[Kept]:
    """Read the record of a cell's captures that were compressed or dropped."""
    if not cell.kept_record.is_file():
        return []
    return [Kept(**entry) for entry in json.loads(cell.kept_record.read_text())]


def settle_captures(cell: Cell) -> None:
    """Drop and compress captures as the study's table `tap` says, unless an attack of the cell has no guesses yet.

    Tensors that only fed the cell's attacks are removed: an attack that runs again writes them again.
    """
    if not all(job.guesses.is_file() for job in attack_jobs(cell)):
        return
    for path in cell.intermediate():
        path.unlink()
    tap = cell.study.tap
    for path in cell.captures():
        if tap.keep == "serving" and link_of(path).startswith((TRAINING, UNTRAINED)):
            _drop(cell, path)
        elif tap.compress and path != compressed(path):
            _compress(cell, path)


def drop_training(cell: Cell) -> None:
    """Drop the captures of split training at once, where no attack reads them; at wide cuts they fill a disk."""
    if cell.study.tap.keep == "serving":
        for path in cell.captures(f"{TRAINING}*"):
            _drop(cell, path)


def space_needed(cells: Iterable[Cell]) -> float:
    """Estimate the bytes on disk of the cells that are not captured yet.

    Each is taken to be as large as the first captured cell of its variant; one of another variant, as their mean. The
    estimate is 0 before the first capture.
    """
    known: dict[str, int] = {}
    waiting = []
    for cell in cells:
        name = cell.variant.name
        if not cell.captured:
            waiting.append(name)
        elif name not in known:
            known[name] = sum(size for size, _ in files_below(cell.folder))
    mean = sum(known.values()) / max(len(known), 1)
    return sum(known.get(name, mean) for name in waiting)


def capture_for(cell: CellPaths, link: str) -> Path:
    """Return the capture of a link for an attack.

    Raises
    ------
    StudyError
        It was dropped.
    """
    if link in {one.link for one in kept_captures(cell) if not one.kept}:
        raise StudyError(
            f"{cell.folder.name}: the capture of {link} was dropped after the attacks had ended (tap.keep); "
            f"remove {cell.folder} and run again with --resume to capture it again"
        )
    return cell.capture(link)


def _drop(cell: Cell, path: Path) -> None:
    _record(cell, Kept(link_of(path), path.stat().st_size, 0))
    path.unlink()


def _compress(cell: Cell, path: Path) -> None:
    packed = compressed(path)
    with path.open("rb") as source, replacing(packed) as file, gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as sink:
        shutil.copyfileobj(source, sink, _PIECE)
    _record(cell, Kept(link_of(path), path.stat().st_size, packed.stat().st_size))
    path.unlink()


def _record(cell: Cell, one: Kept) -> None:
    others = [other for other in kept_captures(cell) if other.link != one.link]
    write_json(cell.kept_record, [asdict(other) for other in (*others, one)])
