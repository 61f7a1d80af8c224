"""Readings of an audit's captures in addition to the attacks: V-information about attributes, and words of texts."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from wireleak.lab.launch.imports import safe_environment
from wireleak.lab.launch.processes import LaunchError
from wireleak.lab.run import truth
from wireleak.lab.run.cell import DEVICES
from wireleak.lab.run.layout import RunFolder

# The readers' cost grows with rows and width, so wider activations are projected at random.
_ROWS, _QUICK_ROWS, _DIMENSION = 1000, 500, 256
_VECTORS = 20_000


@dataclass(frozen=True)
class AttributeInformation:
    """V-information (bits) of a cut's activations about one attribute, the label's entropy, and the largest null."""

    bits: float
    entropy: float
    null: float
    family: str


@dataclass(frozen=True)
class WordsRead:
    """Share of the victims' words that are read from their vectors, and the share of the commonest word."""

    share: float
    majority: float
    n: int

    @property
    def gained(self) -> float:
        """How far the share goes from the commonest word's share to 1, 0 to 1."""
        return min(max((self.share - self.majority) / (1 - self.majority), 0.0), 1.0) if self.majority < 1 else 0.0


@dataclass(frozen=True)
class CutReading:
    """A cheap reading of a cut: of ridge regression and the nearest neighbour, the stronger in each measure.

    Parameters
    ----------
    cut : int
    pairs, victims : int
        Examples of the attacker and of the victims on which it rests.
    by : str
        Reader with the lower MSE, "ridge" or "nearest".
    mse, low, high, prior : float
        Its MSE with a 95 % interval over the victims, and the MSE of the mean image.
    reid, reid_low, reid_high, chance : float
        Share of these victims that are re-identified, by either reader.
    """

    cut: int
    pairs: int
    victims: int
    by: str
    mse: float
    low: float
    high: float
    prior: float
    reid: float
    reid_low: float
    reid_high: float
    chance: float

    @property
    def explained(self) -> float:
        """Share of the prior's error that is removed, 0 to 1."""
        return min(max(1 - self.mse / self.prior, 0.0), 1.0) if self.prior > 0 else 0.0

    @property
    def leakage(self) -> float:
        """The larger share of pixels and identity that leaks, 0 to 1, as for an attack."""
        return max(self.explained, min(max((self.reid - self.chance) / (1 - self.chance), 0.0), 1.0))

    @property
    def basis(self) -> str:
        """What the reading rests on, in words."""
        return f"{self.by} on {self.pairs} pairs and {self.victims} victims, computed in process"


@dataclass
class Readings:
    """Information by cut and attribute, and words by cut, both of the first seed."""

    information: dict[tuple[int, str], AttributeInformation] = field(default_factory=dict)
    words: dict[int, WordsRead] = field(default_factory=dict)


def read_captures(
    folder: Path,
    cuts: Sequence[int],
    attributes: Sequence[str],
    texts: bool,
    quick: bool,
    console: Console,
    most: float = math.inf,
) -> Readings:
    """Read the captures of an audit's run.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    cuts, attributes : sequence
        The audited cuts and attributes.
    texts : bool
        Whether inputs are word numbers.
    quick : bool
        Use fewer rows and fewer draws of the null.
    console : Console
        Output for progress.
    most : float
        Bytes of a cut's activations that are read at most; wider cuts get no V-information.

    Raises
    ------
    LaunchError
        The adversary cannot read a capture.
    """
    from rich.progress import track

    found = Readings()
    if not texts and not attributes:
        return found
    for cut in track(cuts, "V-information", console=console, disable=not console.is_terminal, transient=True):
        cell = RunFolder(folder).cell(f"cut-{cut}", 0)
        if sum(cell.capture(f"serve-{device}").stat().st_size for device in DEVICES) > most:
            continue
        # Inputs are needed only as word numbers; those of images are large.
        names = ("y", *["x"] * texts, *(f"attribute:{one}" for one in attributes))
        with np.load(cell.surrogate) as own:
            parts = [{name: own[name] for name in names}, truth.ledger(cell)]
        if not console.is_terminal:
            console.print(f"reading the capture of cut {cut}", highlight=False)
        seen = [_captured(cell.capture(f"serve-{device}")) for device in DEVICES]
        if [len(rows) for rows in seen] != [len(part["y"]) for part in parts]:
            continue  # a lost message shifts rows against labels
        if texts and (read := words_read(seen[0], parts[0]["x"], seen[1], parts[1]["x"])):
            found.words[cut] = read
        for name in attributes:
            labels = np.concatenate([part[f"attribute:{name}"] for part in parts])
            if one := _information(np.concatenate(seen), labels, quick):
                found.information[cut, name] = one
    return found


def words_read(
    own: npt.NDArray[Any], own_words: npt.NDArray[Any], seen: npt.NDArray[Any], words: npt.NDArray[Any]
) -> WordsRead | None:
    """Read words from vectors that are sent one for each word, as the attacker's word with the nearest vector.

    Parameters
    ----------
    own, seen : float32 (n, length, d)
        Vectors captured from the attacker's own device, and from the victims.
    own_words, words : (n, length)
        Word numbers; 0 pads and is not scored. `words` only scores.

    Returns
    -------
    WordsRead or None
        None where the cut does not send one vector for each word.
    """
    if own.ndim != 3 or own.shape[1] != own_words.shape[1]:
        return None
    from sklearn.neighbors import NearestNeighbors

    known, known_words = own[own_words > 0][:_VECTORS], own_words[own_words > 0][:_VECTORS]
    asked, truth = seen[words > 0][:_VECTORS], words[words > 0][:_VECTORS]
    if not len(known) or not len(asked):
        return None
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(known).kneighbors(asked, return_distance=False)
    values, counts = np.unique(known_words, return_counts=True)
    commonest = values[counts.argmax()]
    return WordsRead(
        float(np.mean(known_words[nearest[:, 0]] == truth)), float(np.mean(truth == commonest)), len(truth)
    )


def _information(rows: npt.NDArray[Any], labels: npt.NDArray[Any], quick: bool) -> AttributeInformation | None:
    """Return V-information about one attribute; None where there are too few rows or one class."""
    from wireleak.common.measures.readers.usable_information import usable_information

    # The last rows are the victims', which stay when rows are left out.
    last = slice(-(_QUICK_ROWS if quick else _ROWS), None)
    labels = np.unique(labels[last], return_inverse=True)[1].astype(np.int64)
    try:
        found = usable_information(rows[last], labels, permutations=2 if quick else 5, dimension=_DIMENSION)
    except ValueError:
        return None
    null = max((one.bits for one in found.null), default=math.nan)
    return AttributeInformation(found.bits, found.entropy, null, found.family)


def _captured(capture: Path) -> npt.NDArray[Any]:
    """Return the activations (n, ...) in a capture, read by the adversary."""
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "activation.npz"
        argv = ["extract", "--kind", "activation", "--output", str(output), str(capture)]
        command, environment = [sys.executable, "-m", "adversary", *argv], {**os.environ, **safe_environment()}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise LaunchError(f"audit: {capture} cannot be read: {' '.join(done.stderr.split())[-300:]}")
        with np.load(output) as file:
            rows: npt.NDArray[Any] = file["activation"]
    return rows
