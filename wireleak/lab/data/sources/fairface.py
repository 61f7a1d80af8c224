"""FairFace: faces labelled with gender, race (7) and age band (9), as 32 px grey images.

x float32 (n, 1, 32, 32) in [0, 1], unaligned. Task: gender. Private: race, age, both annotated.
Two images are in both parts, and some repeat within one; `assign_roles` drops such copies.
'Middle Eastern' is 31 % female; the other groups are nearly balanced.
Source: Karkkainen and Joo, WACV 2021, https://github.com/joojs/fairface.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from wireleak.lab.data.dataset import Attribute, DataError, Dataset, Floats, Ints
from wireleak.lab.data.registry import register
from wireleak.lab.data.tables import encode, read_columns, read_images

_PARTS = ("train", "val")
_SIDE = 32
_GENDERS = ("Male", "Female")
_RACES = ("Black", "East Asian", "Indian", "Latino_Hispanic", "Middle Eastern", "Southeast Asian", "White")
_AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")


def _locate(folders: list[Path]) -> Path | None:
    for folder in folders:
        for base in (folder, folder / "fairface"):
            if all((base / f"fairface_{part}_{_SIDE}.npz").is_file() for part in _PARTS):
                return base
            if all((base / f"fairface_label_{part}.csv").is_file() for part in _PARTS):
                return base
    return None


@register(
    "fairface",
    locate=_locate,
    examples=None,
    shape=(1, 32, 32),
    task="gender (male, female)",
    attributes=("race", "age"),
    obtain="unpack fairface-img-margin025-trainval.zip of https://github.com/joojs/fairface into "
    "~/.cache/wireleak/data/fairface beside fairface_label_train.csv and fairface_label_val.csv",
    licence="CC BY 4.0",
)
def fairface(where: Path, *, part: str = "all", limit: int | None = None) -> Dataset:
    """Read FairFace.

    Parameters
    ----------
    where : Path
        Folder of the two `.npz` files, or of the two label files with the image folders `train` and `val` in it or
        one level below.
    part : {"all", "train", "val"}
        Part, as the authors split the data.
    limit : int, optional
        Read only the first `limit` faces of each part.
    """
    if part not in ("all", *_PARTS):
        raise DataError(f"fairface.part: must be all, train or val, not {part!r}")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise DataError(f"fairface.limit: must be a positive number of faces, not {limit!r}")
    chosen = [p for p in _PARTS if part in ("all", p)]
    packed = (where / f"fairface_train_{_SIDE}.npz").is_file()
    pieces = [(_read_packed if packed else _read_images)(where, p, limit) for p in chosen]
    x, female, race, age = (np.concatenate(column) for column in zip(*pieces, strict=True))
    sizes = [len(piece[1]) for piece in pieces]
    return Dataset(
        name="fairface",
        x=x,
        y=female,
        task="gender",
        classes=("male", "female"),
        attributes={
            "race": Attribute("race", race, _RACES, measured=False),
            "age": Attribute("age", age, _AGES, measured=False),
        },
        groups={"part": np.repeat([_PARTS.index(p) for p in chosen], sizes).astype(np.int64)},
        source=f"FairFace (Karkkainen and Joo 2021) from {where}",
        group_names={"part": _PARTS},
    )


def _read_packed(folder: Path, part: str, limit: int | None) -> tuple[Floats, Ints, Ints, Ints]:
    path = folder / f"fairface_{part}_{_SIDE}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            x = stored["x"][:limit, None].astype(np.float32) / np.float32(255)
            race, _ = encode(stored["race_names"][stored["race"][:limit]].tolist(), _RACES)
            age, _ = encode(stored["age_names"][stored["age"][:limit]].tolist(), _AGES)
            return x, stored["female"][:limit].astype(np.int64), race, age
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"fairface: cannot read {path} ({error}); fetch it again") from error


def _read_images(folder: Path, part: str, limit: int | None) -> tuple[Floats, Ints, Ints, Ints]:
    path = folder / f"fairface_label_{part}.csv"
    columns = read_columns("fairface", path, ("file", "age", "gender", "race"))
    files = columns["file"][:limit]
    base = next((p.parent for p in (folder / part, *sorted(folder.glob(f"*/{part}"))) if p.is_dir()), None)
    if base is None:
        raise DataError(f"fairface: no image folder {part} in {folder}; unpack the images there")
    try:
        female, _ = encode(columns["gender"][:limit], _GENDERS)
        race, _ = encode([value.replace("Latino Hispanic", _RACES[3]) for value in columns["race"][:limit]], _RACES)
        age, _ = encode(columns["age"][:limit], _AGES)
    except KeyError as error:
        raise DataError(f"fairface: {path} holds the unknown label {error}; fetch the authors' file") from error
    pixels = read_images("fairface", [base / file for file in files], _SIDE, grey=True)
    return np.asarray(pixels / np.float32(255), np.float32), female, race, age
