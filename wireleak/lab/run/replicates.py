"""The resampled scores of a run, `replicates.npz`: what a comparison needs to pair scores by seed and by victim."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, PrivateAttr

from wireleak.common.files import write_atomically

_FILE = "replicates.npz"
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """The resampled values of one row, or None; rows with the same figures are equal whatever their resamples."""

    values: Doubles | None = field(default=None, compare=False, repr=False)


class Resampled(BaseModel):
    """A row that may have resampled values, which stand in a file of their own."""

    _draws: Draws = PrivateAttr(default_factory=Draws)

    @property
    def draws(self) -> Doubles | None:
        """Resampled values (resamples,), or None; the same resample for the same index in all rows."""
        return self._draws.values

    def drawn(self, draws: Doubles | None) -> Self:
        """Set the resampled values, and return this row."""
        self._draws = Draws(draws)
        return self


def write_draws(rows: Sequence[Resampled], folder: Path) -> None:
    """Write the resampled values of rows, by their place among the rows; nothing where no row has any."""
    held = [(place, row.draws) for place, row in enumerate(rows) if row.draws is not None]
    if not held:
        return
    buffer = io.BytesIO()
    places, draws = zip(*held, strict=True)
    values = np.stack(draws).astype(np.float32)
    np.savez_compressed(buffer, place=np.array(places, np.int64), draws=values, rows=np.int64(len(rows)))
    write_atomically(folder / _FILE, buffer.getvalue())


def read_draws(rows: Sequence[Resampled], folder: Path) -> None:
    """Give rows their resampled values; none where the file is missing or belongs to other rows, as of older runs."""
    try:
        with np.load(folder / _FILE, allow_pickle=False) as stored:
            if int(stored["rows"]) != len(rows):
                return
            places, draws = stored["place"], np.asarray(stored["draws"], np.float64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return
    for place, values in zip(places, draws, strict=True):
        rows[int(place)].drawn(values)
