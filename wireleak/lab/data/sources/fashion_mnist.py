"""Fashion-MNIST: 70,000 articles of clothing from a shop's catalogue, as 28 px grey images.

x uint8 (n, 1, 28, 28), the article bright on black. Task: the kind of article (10). No private attribute is annotated.
Groups: part, as the authors split the data (60,000 and 10,000).
Source: Xiao, Rasul, Vollgraf, 2017, https://github.com/zalandoresearch/fashion-mnist.
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np

from wireleak.lab.data.dataset import DataError, Dataset, Pixels
from wireleak.lab.data.registry import first_existing, register

_PARTS = {"train": "train", "test": "t10k"}
_SIDE = 28
_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
# Where Debian's package puts the files.
_PACKAGED = Path("/usr/share/datasets")
# An idx file begins with two zeros, the code of its type (8: bytes), and the number of its dimensions.
_BYTES = b"\x00\x00\x08"


def _files(part: str) -> tuple[str, str]:
    return f"{_PARTS[part]}-images-idx3-ubyte.gz", f"{_PARTS[part]}-labels-idx1-ubyte.gz"


def _locate(folders: list[Path]) -> Path | None:
    for folder in (*folders, _PACKAGED):
        for base in (folder, folder / "fashion-mnist"):
            if all(first_existing([base], file) for part in _PARTS for file in _files(part)):
                return base
    return None


@register(
    "fashion-mnist",
    locate=_locate,
    examples=70000,
    shape=(1, _SIDE, _SIDE),
    task="article (10)",
    attributes=(),
    obtain="apt-get install dataset-fashion-mnist, or put the four .gz files of "
    "https://github.com/zalandoresearch/fashion-mnist (folder data/fashion) into ~/.cache/wireleak/data/fashion-mnist",
    licence="MIT",
)
def fashion_mnist(where: Path, *, part: str = "all") -> Dataset:
    """Read Fashion-MNIST.

    Parameters
    ----------
    where : Path
        Folder of the four files `train-` and `t10k-images-idx3-ubyte.gz` and `-labels-idx1-ubyte.gz`.
    part : {"all", "train", "test"}
        Part, as the authors split the data.
    """
    if part not in ("all", *_PARTS):
        raise DataError(f"fashion-mnist.part: must be all, train or test, not {part!r}")
    chosen = [name for name in _PARTS if part in ("all", name)]
    read = [(_read_idx(where / images), _read_idx(where / labels)) for images, labels in map(_files, chosen)]
    for name, (images, labels) in zip(chosen, read, strict=True):
        if images.shape != (len(labels), _SIDE, _SIDE):
            raise DataError(
                f"fashion-mnist: {name} holds images {images.shape} for {len(labels)} labels; fetch {where} again"
            )
    return Dataset(
        name="fashion-mnist",
        x=np.concatenate([images for images, _ in read])[:, None],
        y=np.concatenate([labels for _, labels in read]).astype(np.int64),
        task="article",
        classes=_CLASSES,
        attributes={},
        groups={"part": np.repeat([list(_PARTS).index(name) for name in chosen], [len(y) for _, y in read])},
        source=f"Fashion-MNIST (Xiao, Rasul, Vollgraf 2017) from {where}",
        group_names={"part": tuple(_PARTS)},
    )


def _read_idx(path: Path) -> Pixels:
    """Read an idx file of bytes: its sizes are big-endian integers of 32 bits, and its values follow."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise DataError(f"fashion-mnist: cannot read {path} ({error}); fetch it again") from error
    rank = content[3] if content[:3] == _BYTES and len(content) > 3 else 0
    start = 4 + 4 * rank
    sizes = [int.from_bytes(content[at : at + 4]) for at in range(4, start, 4)]
    if not rank or len(content) != start + math.prod(sizes):
        raise DataError(f"fashion-mnist: {path} is no idx file of bytes; fetch it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)
