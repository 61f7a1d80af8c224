"""The pictures of a run, `pictures.npz`: inputs of the first victims, and the guesses of each."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wireleak.common.files import write_atomically
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.results import ResultsError


@dataclass(frozen=True)
class Pictures:
    """Inputs of the first victims, and the guesses of each.

    Parameters
    ----------
    variant, link, seed, attack
        The attack, and the cell in which it ran.
    originals : array, float32 (k, *input_shape)
        Inputs of the first k victims, in the order in which they were sent; pixels in [0, 1].
    guesses : mapping of str to array like `originals`
        The attack's guess under its name, and each baseline's under `control:<name>`, as in `guesses.npz`.
    ink : bool
        Whether 1 is drawn as black, for drawings whose ink is 1.
    target : str
        The private value whose worst-protected examples the originals are; "" for the first victims.
    """

    variant: str
    link: str
    seed: int
    attack: str
    originals: npt.NDArray[np.float32]
    guesses: Mapping[str, npt.NDArray[np.float32]]
    ink: bool = False
    target: str = ""


def write_pictures(pictures: Iterable[Pictures], folder: Path) -> Path:
    """Write `pictures.npz` into `folder` atomically: arrays plus an index, nothing pickled."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    index = []
    for number, picture in enumerate(pictures):
        named = {"originals": picture.originals} | {f"guess/{name}": array for name, array in picture.guesses.items()}
        arrays |= {f"{number}/{name}": np.asarray(array, np.float32) for name, array in named.items()}
        index.append(
            {key: getattr(picture, key) for key in ("variant", "link", "seed", "attack", "ink", "target")}
            | {"guesses": list(picture.guesses)}
        )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, index=np.array(json.dumps(index)), **arrays)  # type: ignore[arg-type]
    path = RunFolder(folder).pictures
    write_atomically(path, buffer.getvalue())
    return path


def read_pictures(folder: Path, ranked: bool = False) -> list[Pictures]:
    """Read a run's `pictures.npz`: of the first victims, and if `ranked` also of the worst-protected ones.

    Raises
    ------
    ResultsError
        The file is damaged; the message is one line.
    """
    path = RunFolder(folder).pictures
    if not path.exists():
        return []
    try:
        with np.load(path, allow_pickle=False) as stored:
            index = json.loads(str(stored["index"]))
            held = [(number, entry) for number, entry in enumerate(index) if ranked or not entry.get("target")]
            return [_stored_pictures(stored, number, entry) for number, entry in held]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ResultsError(
            f"{path}: is not a pictures file of a run ({error}); resume the run with `wireleak run`"
        ) from None


def _stored_pictures(stored: Any, number: int, entry: dict[str, Any]) -> Pictures:
    guesses = {name: stored[f"{number}/guess/{name}"] for name in entry["guesses"]}
    return Pictures(**(entry | {"originals": stored[f"{number}/originals"], "guesses": guesses}))
