"""Read an audit's captures in addition to the attacks: V-information about attributes, and words of texts."""

from __future__ import annotations

import json
import math
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from wireleak.common.files import named_config, write_json
from wireleak.common.memory import written
from wireleak.lab.audit.readings import AttributeInformation, Readings, WordsRead
from wireleak.lab.audit.subject import Subject
from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.run import truth
from wireleak.lab.run.cell import DEVICES
from wireleak.lab.run.layout import CellFolder, RunFolder, config_in
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
        Time by `time.monotonic` until which the reading ends. Small captures come first.

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
    order = sorted(subject.cuts, key=lambda cut: subject.costs[cut].bytes)
    for cut in track(order, "V-information", console=console, disable=hidden, transient=True):
        cell = RunFolder(folder).cell(f"cut-{cut}", 0)
        if until is not None and time.monotonic() > until:
            found.skipped[cut] = NO_TIME
        elif (reason := _too_large(cell, subject.request.memory // _HELD)) is not None:
            found.skipped[cut] = reason
        else:
            if hidden:
                console.print(f"reading the capture of cut {cut}", highlight=False)
            try:
                _read(cut, folder, subject, launcher, found, until)
            except LaunchError:
                if until is None or time.monotonic() < until:
                    raise
                launcher.end_all()
                found.skipped[cut] = NO_TIME
    return found


def _too_large(cell: CellFolder, most: int) -> str | None:
    """Return why a cell's captures cannot be held, or None."""
    size = sum(cell.capture(f"serve-{device}").stat().st_size for device in DEVICES)
    return f"its captures take {written(size)}, more than {written(most)}" if size > most else None


def _read(cut: int, folder: Path, subject: Subject, launcher: Launcher, found: Readings, until: float | None) -> None:
    """Add a cut's readings to `found`; other processes decode the captures and read them, so that they can be ended."""
    cell = RunFolder(folder).cell(f"cut-{cut}", 0)

    def left() -> float:
        return _SECONDS if until is None else max(0.0, until - time.monotonic())

    with tempfile.TemporaryDirectory() as scratch:
        seen = {device: Path(scratch) / device / "activation.npz" for device in DEVICES}
        for device, output in seen.items():
            output.parent.mkdir()
            name, capture = f"read-{device}", cell.capture(f"serve-{device}")
            extract(launcher, name, "activation", capture, output, cell.log(name), left())
        report = Path(scratch) / "readings.json"
        asked = {
            "attributes": list(subject.dataset.attributes),
            "text": subject.is_text,
            "quick": subject.request.quick,
        }
        files = {"folder": str(folder), "seen": {name: str(path) for name, path in seen.items()}, "report": str(report)}
        config = write_json(config_in(Path(scratch)), {"cut": cut, **asked, **files})
        argv = ["-m", "wireleak.lab.audit.captures", "--config", str(config)]
        launcher.finish(launcher.start("reading", argv, cell.log("reading"), essential=False), left())
        read = json.loads(report.read_text())
    if (reason := read["skipped"]) is not None:
        found.skipped[cut] = reason
    if read["words"] is not None:
        found.words[cut] = WordsRead(**read["words"])
    for name, one in read["information"].items():
        found.information[cut, name] = AttributeInformation(**one)


def main() -> None:
    """Read the captures that the file after `--config` describes, and write the readings."""
    config = named_config()
    write_json(Path(config["report"]), readings_of(config))


def readings_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return a cut's words and information, or the reason why it has none.

    Parameters
    ----------
    config : dict
        Folder of the run, cut, files of activations by device, attributes, and whether inputs are text and few rows do.
    """
    cell = RunFolder(Path(config["folder"])).cell(f"cut-{config['cut']}", 0)
    attributes, text = config["attributes"], config["text"]
    # Inputs are needed only as word numbers; those of images are large.
    names = ("y", *["x"] * text, *(f"attribute:{one}" for one in attributes))
    with np.load(cell.surrogate) as own:
        parts = [{name: own[name] for name in names}, truth.ledger(cell)]
    seen = []
    for device in DEVICES:
        with np.load(config["seen"][device]) as file:
            seen.append(file["activation"])
    found: dict[str, Any] = {"skipped": None, "words": None, "information": {}}
    if [len(rows) for rows in seen] != [len(part["y"]) for part in parts]:
        return found | {"skipped": "a message was lost, so activations and labels do not match"}
    if text and (words := words_read(seen[0], parts[0]["x"], seen[1], parts[1]["x"])):
        found["words"] = asdict(words)
    rows = np.concatenate(seen)
    for name in attributes:
        labels = np.concatenate([part[f"attribute:{name}"] for part in parts])
        if one := _information(rows, labels, config["quick"]):
            found["information"][name] = asdict(one)
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


if __name__ == "__main__":
    main()
