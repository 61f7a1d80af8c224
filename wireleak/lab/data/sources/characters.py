"""English prose from scikit-learn, character by character; nothing to download.

x float32 (n, 20): the 20 characters before each character of the text as numbers, 0 before a document begins. Task:
the character that follows, one of the 41 of `secret_sharer.ALPHABET`. There are no private attributes: planted numbers
measure how much a language model reveals of its text (Carlini et al. 2019).
Source: the descriptions of scikit-learn's data sets, `sklearn/datasets/descr/*.rst`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from wireleak.common.measures.statistics.secret_sharer import ALPHABET, WINDOW, windows
from wireleak.lab.data.dataset import DataError, Dataset
from wireleak.lab.data.overlap import first_occurrences
from wireleak.lab.data.registry import register

_FOLDER = Path("datasets") / "descr"


def _locate(_: list[Path]) -> Path | None:
    # Finds the files without importing scikit-learn, which takes a second.
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / _FOLDER).is_dir():
            return path
    return None


def prose(text: str) -> str:
    """Keep lower-case letters, digits and the alphabet's marks; each run of anything else becomes one space."""
    lower = text.lower()
    return " ".join("".join(character if character in ALPHABET else " " for character in lower).split())


@register(
    "characters",
    locate=_locate,
    examples=None,
    shape=(WINDOW,),
    task="which of 41 characters follows",
    attributes=(),
    obtain="it comes with the package scikit-learn: pip install scikit-learn",
    licence="BSD 3-clause",
)
def characters(where: Path) -> Dataset:
    """Read every document and cut it into windows; repeated windows are kept once."""
    paths = sorted(where.glob("*.rst"))
    if not paths:
        raise DataError(f"characters: {where} holds no .rst file; reinstall scikit-learn")
    parts = [windows(prose(path.read_text(encoding="utf-8"))) for path in paths]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    document = np.repeat(np.arange(len(parts)), [len(held) for held, _ in parts])
    kept = first_occurrences(x)
    return Dataset(
        name="characters",
        x=x[kept],
        y=y[kept],
        task="next character",
        classes=tuple(ALPHABET),
        attributes={},
        groups={"document": document[kept]},
        source=f"descriptions of {len(paths)} data sets in scikit-learn",
        group_names={"document": tuple(path.stem for path in paths)},
    )
