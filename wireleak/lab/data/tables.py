"""Read CSV files as columns by name, and images at one size."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wireleak.common.registry import unknown
from wireleak.lab.data.dataset import DataError, Ints, Pixels


def read_columns(dataset: str, path: Path, columns: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the columns of a CSV with a header, by name.

    Raises
    ------
    DataError
        The file cannot be read, is empty, or lacks one of `columns`.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = [name for name in reader.fieldnames or [] if name]
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{dataset}: cannot read {path} ({error})") from error
    if missing := [name for name in columns if name not in header]:
        raise DataError(f"{dataset}: {path} has {unknown('column', missing[0], header)}")
    if not rows:
        raise DataError(f"{dataset}: {path} has no rows below its header; add rows or name another file")
    for number, row in enumerate(rows, 2):
        if any(row[name] is None for name in header):
            raise DataError(f"{dataset}: row {number} of {path} has fewer values than the header; complete it")
    return {name: [row[name] for row in rows] for name in header}


def encode(values: Sequence[str], classes: Sequence[str] | None = None) -> tuple[Ints, tuple[str, ...]]:
    """Return text values as class indices, and the classes: as given, or sorted, with numbers by size.

    Raises
    ------
    KeyError
        A value is not in `classes`.
    """
    chosen = tuple(classes) if classes is not None else tuple(sorted(set(values), key=_sort_key))
    number = {name: index for index, name in enumerate(chosen)}
    return np.array([number[value] for value in values], np.int64), chosen


def read_images(dataset: str, paths: Sequence[Path], size: int, grey: bool) -> Pixels:
    """Read images as 8-bit pixels (n, 1 or 3, size, size), resized by area to a square.

    Raises
    ------
    DataError
        A file is missing or is not an image.
    """
    from PIL import Image, UnidentifiedImageError

    mode = "L" if grey else "RGB"
    x = np.empty((len(paths), 1 if grey else 3, size, size), np.uint8)
    for row, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                image.draft(mode, (2 * size, 2 * size))  # decodes a large JPEG at a small size, many times faster
                small = image.convert(mode).resize((size, size), Image.Resampling.BOX)
        except UnidentifiedImageError as error:
            raise DataError(f"{dataset}: {path} is not an image") from error
        except OSError as error:
            raise DataError(f"{dataset}: cannot read {path} ({error.strerror or error})") from error
        x[row] = np.asarray(small).reshape(size, size, -1).transpose(2, 0, 1)
    return x


def _sort_key(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)
