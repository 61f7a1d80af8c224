"""The trained network that is served: a finished run's cell, or a small study that is run first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from wireleak.lab.devices.export import Exported, export_run
from wireleak.lab.devices.manifest import MANIFEST
from wireleak.lab.run.layout import CellFolder, RunFolder
from wireleak.lab.run.opening import finished_cell
from wireleak.lab.steps.run import run_study
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import StudyError
from wireleak.lab.study.tables import Variant

STUDY = Path(__file__).with_name("web.toml")


@dataclass(frozen=True)
class Source:
    """A network to serve.

    Parameters
    ----------
    cell : CellFolder
        The run's cell that it is from.
    variant : Variant
        The cell's variant.
    encoder : Exported
        The encoder, for devices.
    title : str
        Its name for people.
    """

    cell: CellFolder
    variant: Variant
    encoder: Exported
    title: str


def small_variants() -> tuple[str, ...]:
    """Name the variants of the small study: its cuts."""
    study, _ = load_study(str(STUDY))
    return tuple(variant.name for variant in study.variants)


def trained_run(out: Path, console: Console) -> Path:
    """Return the last run of the small study in `out`; without one, run it now.

    Raises
    ------
    StudyError, DataError, LaunchError
        The study failed.
    """
    latest = out / "web-latest"
    if RunFolder(latest).results.is_file():
        console.print(f"model: {latest}, trained before", highlight=False, soft_wrap=True)
        return latest
    console.print("model: a small study trains it first, a minute or two", highlight=False)
    return run_study(str(STUDY), out, table=False, console=console)


def open_source(run: Path, variant: str | None, seed: int | None, out: Path) -> Source:
    """Open a cell of a finished run, and export its encoder into the variant's folder in `out`.

    Raises
    ------
    StudyError, ExportError
        Something is missing: one line that names it.
    """
    files = RunFolder(run)
    if not files.study.is_file():
        raise StudyError(f"RUN: {run} holds no {files.study.name}; name a run's folder")
    study, _ = load_study(str(files.study))
    cell, name, number = finished_cell(files, study, variant, seed)
    encoder = export_run(run, name, number, CellFolder(out / name).exported)
    chosen = next(one for one in study.variants if one.name == name)
    model = encoder.model
    title = (
        f"{model.name}, cut after block {model.cut}, trained in the run {run.resolve().name} ({name}, seed {number})"
    )
    return Source(cell, chosen, encoder, title)


def check_for_page(source: Source) -> None:
    """Refuse a network that the page cannot run, or that leaves the live eavesdropper without pairs.

    Raises
    ------
    StudyError
        One line that names the reason and the fix.
    """
    name = source.variant.name
    kind = json.loads((source.encoder.folder / MANIFEST).read_text())["input"]["kind"]
    if kind != "image":
        raise StudyError(f"RUN: the page draws pictures, but {name} takes inputs of kind {kind}; name another run")
    if source.encoder.transforms:
        step = source.encoder.transforms[0].name
        raise StudyError(
            f"--variant: {name} applies {step}, which the page cannot; choose a variant without transforms"
        )
    if source.variant.encrypted:
        raise StudyError(
            f"--variant: {name} encrypts its links, so the eavesdropper has no pairs; choose another variant"
        )
    for path in (source.cell.capture("serve-attacker"), source.cell.surrogate):
        if not path.is_file():
            raise StudyError(f"RUN: {path} is missing, and the eavesdropper learns from it; name another run")
