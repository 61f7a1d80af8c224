"""A user's own images: a folder, with a CSV of attributes.

x uint8 (n, 1 or 3, size, size). One column of the CSV names the file (relative to the folder), one is the
task; others are private attributes and groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wireleak.lab.data.dataset import Attribute, DataError, Dataset
from wireleak.lab.data.registry import register
from wireleak.lab.data.tables import encode, read_columns, read_images

_MOST_CLASSES = 50


@register(
    "folder",
    locate=lambda folders: Path(),
    examples=None,
    shape=(),
    task="a column of the CSV",
    attributes=("columns of the CSV",),
    obtain="give the options path, csv and task",
    licence="yours",
)
def folder(
    where: Path,
    *,
    path: str | None = None,
    csv: str | None = None,
    task: str | None = None,
    file: str = "file",
    attributes: Sequence[str] | None = None,
    groups: Sequence[str] = (),
    size: int = 28,
    grey: bool = True,
    sample: int | None = None,
) -> Dataset:
    """Read a folder of images.

    Parameters
    ----------
    where : Path
        Folder to which relative paths refer: the current one.
    path, csv, task : str
        The image folder, the CSV (by default the only one in the folder), the task's column.
    file : str
        Column of file names.
    attributes : sequence of str, optional
        Private columns; by default every other column with 2 to 50 different values.
    groups : sequence of str
        Columns to split by, such as a person's name.
    size : int
        Side in pixels.
    grey : bool
        One channel instead of three.
    sample : int, optional
        Number of images to read, drawn at random with a fixed seed; by default all. Classes are those of the whole CSV.
    """
    if path is None or task is None:
        raise DataError(f"folder.{'path' if path is None else 'task'}: is missing; give the options path, csv and task")
    if not isinstance(size, int) or not 1 <= size <= 4096:
        raise DataError(f"folder.size: must be a number of pixels from 1 to 4096, not {size!r}")
    if sample is not None and (not isinstance(sample, int) or sample < 1):
        raise DataError(f"folder.sample: must be a number of images from 1, not {sample!r}")
    base = where / Path(path).expanduser()
    if not base.is_dir():
        raise DataError(f"folder.path: {base} is not a folder; name the folder of the images")
    table = where / Path(csv).expanduser() if csv else _only_csv(base)
    columns = read_columns("folder", table, (file, task, *(attributes or ()), *groups))
    private = _private(columns, {file, task, *groups}) if attributes is None else attributes
    y, classes = encode(columns[task])
    encoded = {name: encode(columns[name]) for name in private}
    grouped = {name: encode(columns[name]) for name in groups}
    # Drawn before any file is opened: most of a large folder is never decoded.
    rows = np.sort(np.random.default_rng(0).permutation(len(y))[:sample])
    return Dataset(
        name="folder",
        x=read_images("folder", [base / columns[file][row] for row in rows], size, grey),
        y=y[rows],
        task=task,
        classes=classes,
        attributes={k: Attribute(k, values[rows], names, measured=False) for k, (values, names) in encoded.items()},
        groups={k: values[rows] for k, (values, _) in grouped.items()},
        source=str(base),
        group_names={k: names for k, (_, names) in grouped.items()},
    )


def _only_csv(base: Path) -> Path:
    tables = sorted(base.glob("*.csv"))
    if len(tables) != 1:
        raise DataError(f"folder.csv: {base} holds {len(tables)} CSV files; name one with the option csv")
    return tables[0]


def _private(columns: dict[str, list[str]], taken: set[str]) -> list[str]:
    return [k for k, values in columns.items() if k not in taken and 2 <= len(set(values)) <= _MOST_CLASSES]
