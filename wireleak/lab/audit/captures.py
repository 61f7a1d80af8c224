"""Read an audit's captures in addition to the attacks: V-information about attributes, and words of texts."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from wireleak.common.memory import written
from wireleak.lab.audit.readings import AttributeInformation, Readings, WordsRead
from wireleak.lab.audit.subject import Subject
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.run import truth
from wireleak.lab.run.cell import DEVICES
from wireleak.lab.run.layout import CellFolder, RunFolder
from wireleak.lab.run.limits import NO_TIME
from wireleak.lab.steps.wires import extract

# The readers' cost grows with rows and width, so wider activations are projected at random.
_ROWS, _QUICK_ROWS, _DIMENSION = 1000, 500, 256
_VECTORS = 20_000
# Part of the memory for activations that are read again, and the longest time of reading one capture.
_HELD, _SECONDS = 8, 3600.0


def read_captures(
    folder: Path, subject: Subject, launcher: Launcher, console: Console, until: float | None = None
) -> Readings:
    """Read the captures of an audit's run.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    subject : Subject
        Its cuts and attributes are read.
    launcher : Launcher
    console : Console
        Output for progress.
    until : float, optional
        Time by `time.monotonic` after which no further cut is read.

    Raises
    ------
    LaunchError
        The adversary cannot read a capture.
    """
    from rich.progress import track

    found = Readings()
    if not subject.is_text and not subject.dataset.attributes:
        return found
    hidden = not console.is_terminal
    for cut in track(subject.cuts, "V-information", console=console, disable=hidden, transient=True):
        cell = RunFolder(folder).cell(f"cut-{cut}", 0)
        reason = _refusal(cell, subject.request.memory // _HELD, until)
        if reason is None:
            if hidden:
                console.print(f"reading the capture of cut {cut}", highlight=False)
            reason = _read(cut, cell, subject, launcher, found)
        if reason is not None:
            found.skipped[cut] = reason
    return found


def _refusal(cell: CellFolder, most: int, until: float | None) -> str | None:
    """Return why a cell's captures are not read, or None."""
    if until is not None and time.monotonic() > until:
        return NO_TIME
    size = sum(cell.capture(f"serve-{device}").stat().st_size for device in DEVICES)
    return f"its captures take {written(size)}, more than {written(most)}" if size > most else None


def _read(cut: int, cell: CellFolder, subject: Subject, launcher: Launcher, found: Readings) -> str | None:
    """Add a cut's readings to `found`, or return why it has none."""
    # Inputs are needed only as word numbers; those of images are large.
    names = ("y", *["x"] * subject.is_text, *(f"attribute:{one}" for one in subject.dataset.attributes))
    with np.load(cell.surrogate) as own:
        parts = [{name: own[name] for name in names}, truth.ledger(cell)]
    seen = [_captured(cell, device, launcher) for device in DEVICES]
    if [len(rows) for rows in seen] != [len(part["y"]) for part in parts]:
        return "a message was lost, so activations and labels do not match"
    if subject.is_text and (words := words_read(seen[0], parts[0]["x"], seen[1], parts[1]["x"])):
        found.words[cut] = words
    for name in subject.dataset.attributes:
        labels = np.concatenate([part[f"attribute:{name}"] for part in parts])
        if one := _information(np.concatenate(seen), labels, subject.request.quick):
            found.information[cut, name] = one
    return None


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


def _captured(cell: CellFolder, device: str, launcher: Launcher) -> npt.NDArray[Any]:
    """Return the activations (n, ...) in a device's capture, read by the adversary."""
    with tempfile.TemporaryDirectory() as scratch:
        output, name = Path(scratch) / "activation.npz", f"read-{device}"
        capture = cell.capture(f"serve-{device}")
        extract(launcher, name, "activation", capture, output, cell.log(name), _SECONDS)
        with np.load(output) as file:
            rows: npt.NDArray[Any] = file["activation"]
    return rows
