"""Write each figure of a run as a file, for a paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wireleak.common.files import write_atomically
from wireleak.common.registry import unknown
from wireleak.lab.report import figures
from wireleak.lab.report.boards import boards
from wireleak.lab.report.charts import style
from wireleak.lab.report.charts.strips import is_pictures, picture_strip, signal_strip
from wireleak.lab.report.defences import compare_defences
from wireleak.lab.report.devices import set_up_drawing
from wireleak.lab.report.figures import Drawing
from wireleak.lab.report.findings import titles
from wireleak.lab.report.page import first_seed
from wireleak.lab.report.ranked import roc_drawings
from wireleak.lab.report.training_page import training_page
from wireleak.lab.run.pictures import Pictures, read_pictures
from wireleak.lab.run.results import Results, ResultsError, read_results

PNG = "png"
_LISTED_FIGURES = 5


def write_figures(run: Path, kind: str, out: Path | None = None, only: str | None = None) -> Iterator[Path]:
    """Write the figures of a run's results, and yield each file's path.

    Parameters
    ----------
    run : Path
        The run's folder; only results.json and pictures.npz are read.
    kind : str
        One of `style.FORMATS`; rows of pictures are PNG files in any case.
    out : Path, optional
        Folder for the files; the default is `figures` in the run's folder.
    only : str, optional
        Write only the figure of that name.

    Raises
    ------
    ResultsError
        The format or the name is unknown, or the folder holds no results; one line.
    """
    if kind not in style.FORMATS:
        raise ResultsError(f"--format: {unknown('format', kind, style.FORMATS)}")
    results = read_results(run)
    writers = {_file_name(drawing.name): _drawing_writer(drawing, kind) for drawing in drawings(results)}
    for one in read_pictures(run):
        for name, values in (("originals", one.originals), *one.guesses.items()):
            title = _file_name(f"pictures-{one.variant}-seed{one.seed}-{one.attack}-{name.removeprefix('control:')}")
            writers[title] = _strip_writer(one, values, kind)
    if not writers:
        raise ResultsError(f"{run}: its results contain nothing to draw")
    if only is not None and only not in writers:
        raise ResultsError(f"--only: {unknown('figure', only, writers, most=_LISTED_FIGURES)}")
    folder = out or run / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in writers.items():
        if only in (None, name):
            yield write(folder / name)


def drawings(results: Results) -> list[Drawing]:
    """Return every figure of a run's results."""
    names = titles(results)
    every = boards(results.rows)
    training = training_page(results)
    exposed = figures.exposure_drawing(every, names)
    wires = first_seed(results.wires)
    set_up = set_up_drawing(results.devices)
    return [
        *([set_up] if set_up else []),
        *map(figures.defence_drawing, compare_defences(results)),
        *(drawing for _, drawing in figures.traffic_drawings(wires, names)),
        *(figures.rounds_drawing(one, names) for one in training.windows),
        *map(figures.update_drawing, training.points),
        *(figures.feature_drawing(one) for page in training.features for one in page.panels),
        *map(figures.heat_drawing, training.localised),
        *([exposed] if exposed else []),
        *(drawing for _, drawing in roc_drawings(results, every, names)),
        *(drawing for board in every for drawing in figures.score_drawings(board, names[board.variant], every)),
        *(drawing for wire in wires if wire.tls for drawing in figures.record_drawings(wire)),
    ]


def _drawing_writer(drawing: Drawing, kind: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        draw = drawing.paper or drawing.draw
        return style.save(draw(), path.with_name(f"{path.name}.{kind}"), drawing.said)

    return write


def _strip_writer(one: Pictures, values: npt.NDArray[np.float32], kind: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        if is_pictures(values):
            data, _ = picture_strip(values, one.ink)
            return write_atomically(path.with_name(f"{path.name}.{PNG}"), data)
        reach = float(np.abs(np.nan_to_num(one.originals)).max()) or 1.0
        return style.save(signal_strip(values, reach), path.with_name(f"{path.name}.{kind}"))

    return write


def _file_name(words: str) -> str:
    """Return `words` as a plain file name: names come from studies and captures."""
    return re.sub(r"[^\w.-]+", "-", words).strip("-.")[:120]
