"""Omniglot: 32,460 drawings of 1,623 characters of 50 alphabets, each drawn by 20 people.

x float32 (n, 1, size, size) in [0, 1], ink 1 (the files' ink is 0); size 28 is an exact area average of 105.
Task: the alphabet. The 20 evaluation alphabets come first in `classes`, so a model trained only on them needs the first
20 outputs. Private: the drawer (one of the 20 of its alphabet: drawer 3 of Greek is not drawer 3 of Latin), and
horizontal position, size and slant, measured at 105 px and split at the median of each character.
Groups: alphabet, part, character, drawer (the last two unique over all alphabets).
Source: Lake, Salakhutdinov, Tenenbaum, Science 2015, https://github.com/brendenlake/omniglot.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wireleak.common.registry import unknown
from wireleak.lab.data.dataset import Attribute, DataError, Dataset, Floats, Ints
from wireleak.lab.data.measured import Geometry, geometry, median_split
from wireleak.lab.data.registry import first_existing, register

# Alphabets of the attacker in the published model-inversion post; its test set shares 1,000 drawings with them.
ATTACKER = ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin")
VICTIMS = ("Cyrillic", "Hebrew", "Japanese_(katakana)", "Sanskrit", "Tagalog")
VICTIMS_AS_PUBLISHED = ("Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog")

_SIDE = 105
_PARTS = ("background", "evaluation")
_CHUNK = 1024
_DRAWING = re.compile(r"([^/]+)/character(\d+)/\d+_(\d+)\.png$")


@dataclass(frozen=True)
class _Drawings:
    packed: npt.NDArray[np.uint8]  # (n, 1379): bits of 105 x 105, ink 1
    alphabet: npt.NDArray[np.str_]
    character: Ints
    drawer: Ints
    evaluation: npt.NDArray[np.bool_]

    def take(self, chosen: npt.NDArray[np.generic]) -> _Drawings:
        return _Drawings(
            self.packed[chosen],
            self.alphabet[chosen],
            self.character[chosen],
            self.drawer[chosen],
            self.evaluation[chosen],
        )


def _locate(folders: list[Path]) -> Path | None:
    for folder in folders:
        if (packed := folder / "omniglot.npz").is_file():
            return packed
        for base in (folder, folder / "omniglot", folder / "omniglot" / "python"):
            if all(first_existing([base], f"images_{part}", f"images_{part}.zip") for part in _PARTS):
                return base
    return None


@register(
    "omniglot",
    locate=_locate,
    examples=32460,
    shape=(1, 28, 28),
    task="alphabet (50, the 20 evaluation alphabets first)",
    attributes=("drawer", "position", "size", "slant"),
    obtain="put images_background.zip and images_evaluation.zip of https://github.com/brendenlake/omniglot "
    "(folder python) into ~/.cache/wireleak/data/omniglot, or name their folder in WIRELEAK_DATA",
    licence="MIT",
)
def omniglot(where: Path, *, size: int = 28, part: str = "all", alphabets: Sequence[str] | None = None) -> Dataset:
    """Read Omniglot.

    Parameters
    ----------
    where : Path
        `omniglot.npz`, or the folder of `images_background` and `images_evaluation` (folders or zips).
    size : {28, 105}
        Side in pixels. At 105, all drawings take 1.4 GB.
    part : {"all", "background", "evaluation"}
        Part, as the authors split the data.
    alphabets : sequence of str, optional
        Read only these alphabets.
    """
    if size not in (28, _SIDE):
        raise DataError(f"omniglot.size: must be 28 or 105, not {size!r}")
    if part not in ("all", *_PARTS):
        raise DataError(f"omniglot.part: must be all, background or evaluation, not {part!r}")
    drawings = _read_packed(where) if where.suffix == ".npz" else _read_images(where)
    drawings = _select(drawings, part, alphabets)
    x, shapes = _unpack(drawings.packed, size)
    return _dataset(drawings, x, shapes, where)


def _dataset(drawings: _Drawings, x: Floats, shapes: Geometry, where: Path) -> Dataset:
    classes = (
        *sorted(set(drawings.alphabet[drawings.evaluation].tolist())),
        *sorted(set(drawings.alphabet[~drawings.evaluation].tolist())),
    )
    number = {name: index for index, name in enumerate(classes)}
    alphabet = np.array([number[name] for name in drawings.alphabet.tolist()], np.int64)
    character = alphabet * 100 + drawings.character
    attributes = (
        Attribute("drawer", drawings.drawer - 1, tuple(str(i) for i in range(1, 21)), measured=False),
        median_split("position", shapes.position, character, ("left", "right")),
        median_split("size", shapes.size, character, ("small", "large")),
        median_split("slant", shapes.slant, character, ("left", "right")),
    )
    return Dataset(
        name="omniglot",
        x=x,
        y=alphabet,
        task="alphabet",
        classes=classes,
        attributes={a.name: a for a in attributes},
        groups={
            "alphabet": alphabet,
            "part": drawings.evaluation.astype(np.int64),
            "character": np.unique(character, return_inverse=True)[1].astype(np.int64),
            "drawer": alphabet * 20 + drawings.drawer - 1,
        },
        source=f"Omniglot (Lake et al. 2015) from {where.name}",
        group_names={"alphabet": classes, "part": _PARTS},
    )


def _select(drawings: _Drawings, part: str, alphabets: Sequence[str] | None) -> _Drawings:
    keep = np.ones(len(drawings.alphabet), bool)
    if part != "all":
        keep &= drawings.evaluation == (part == "evaluation")
    if alphabets is not None:
        present = sorted(set(drawings.alphabet[keep].tolist()))
        if wrong := sorted(set(alphabets) - set(present)):
            raise DataError(f"omniglot: {unknown('alphabet', wrong[0], present)}")
        keep &= np.isin(drawings.alphabet, list(alphabets))
    chosen = np.flatnonzero(keep)
    keys = (drawings.drawer[chosen], drawings.character[chosen], drawings.alphabet[chosen])
    return drawings.take(chosen[np.lexsort(keys)])


def _read_packed(path: Path) -> _Drawings:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return _Drawings(
                stored["x"],
                stored["names"][stored["alphabet"]],
                stored["char"].astype(np.int64),
                stored["drawer"].astype(np.int64),
                stored["evaluation"],
            )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"omniglot: cannot read {path} ({error}); fetch it again") from error


def _read_images(folder: Path) -> _Drawings:
    from PIL import Image, UnidentifiedImageError

    packed, rows = [], []
    for part in _PARTS:
        for name, data in _files(folder, part):
            match = _DRAWING.search(name)
            if not match:
                continue
            try:
                ink = np.asarray(Image.open(io.BytesIO(data)).convert("L")) < 128
            except (UnidentifiedImageError, OSError) as error:
                raise DataError(f"omniglot: {name} is not an image; fetch images_{part} again") from error
            if ink.shape != (_SIDE, _SIDE):
                raise DataError(f"omniglot: {name} is {ink.shape[1]}x{ink.shape[0]}, not {_SIDE}x{_SIDE}")
            packed.append(np.packbits(ink.reshape(-1)))
            rows.append((match[1], int(match[2]), int(match[3]), part == "evaluation"))
    if not rows:
        raise DataError(f"omniglot: no drawings (alphabet/characterNN/xxxx_yy.png) in {folder}; unpack the zips there")
    alphabet, character, drawer, evaluation = zip(*rows, strict=True)
    return _Drawings(
        np.stack(packed),
        np.array(alphabet),
        np.array(character, np.int64),
        np.array(drawer, np.int64),
        np.array(evaluation, bool),
    )


def _files(folder: Path, part: str) -> Iterator[tuple[str, bytes]]:
    base = folder / f"images_{part}"
    if base.is_dir():
        for path in sorted(base.rglob("*.png")):
            yield path.relative_to(folder).as_posix(), path.read_bytes()
        return
    archive = folder / f"images_{part}.zip"
    try:
        with zipfile.ZipFile(archive) as stored:
            for name in sorted(stored.namelist()):
                if name.endswith(".png") and not name.startswith("__MACOSX"):
                    yield name, stored.read(name)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"omniglot: cannot read {archive} ({error}); fetch it again") from error


def _unpack(packed: npt.NDArray[np.uint8], size: int) -> tuple[Floats, Geometry]:
    x = np.empty((len(packed), 1, size, size), np.float32)
    shrink = area_weights(_SIDE, size)
    shapes = []
    for start in range(0, len(packed), _CHUNK):
        bits = np.unpackbits(packed[start : start + _CHUNK], axis=1)[:, : _SIDE * _SIDE]
        ink = bits.reshape(-1, _SIDE, _SIDE).astype(np.float32)
        shapes.append(geometry(ink))
        x[start : start + _CHUNK, 0] = ink if size == _SIDE else np.minimum(shrink @ (ink @ shrink.T), 1)
    return x, Geometry(*(np.concatenate([getattr(s, k) for s in shapes]) for k in ("position", "size", "slant")))


def area_weights(length: int, size: int) -> Floats:
    """Return weights (size, length) of an exact area average along one axis; each row sums to 1."""
    edges = np.linspace(0, length, size + 1)
    cells = np.arange(length)
    covered = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return np.asarray(np.maximum(covered, 0.0) * size / length, np.float32)
