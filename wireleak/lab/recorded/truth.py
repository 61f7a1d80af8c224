"""The ground truth of a recorded capture: the run's, or the labels that crossed the captured link itself."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wireleak.common.registry import unknown
from wireleak.common.targets.target import Target
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.run import truth as ground_truth
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.kept import TRAINING
from wireleak.lab.run.layout import link_of
from wireleak.lab.run.truth import CellTruth
from wireleak.lab.steps.attack import ATTACK_SECONDS
from wireleak.lab.steps.wires import extract
from wireleak.lab.study.schema import StudyError


@dataclass(frozen=True)
class Truth:
    """Ground truth in the form that a target scores.

    Parameters
    ----------
    values
        As `Target.ground_truth` returns it.
    count : int
        Number of guesses.
    sealed : CellTruth or None
        The run's sealed files; None for labels that were read off the link.
    unknown : tuple of int
        Rows whose value is not known, because their message cannot be decoded.
    """

    values: Any
    count: int
    sealed: CellTruth | None = None
    unknown: tuple[int, ...] = ()


def serving_truth(cell: Cell, sought: Target[Any]) -> Truth:
    """Return the ground truth of a run's serving victims.

    Raises
    ------
    StudyError
        The run has no such target.
    """
    prefix = "attribute:"
    known = [name.removeprefix(prefix) for name in ground_truth.ledger(cell) if name.startswith(prefix)]
    if sought.attribute not in (None, *known):
        raise StudyError(f"--target: {unknown('target', sought.shown, ['input', *known])}")
    sealed = CellTruth(cell, cell.study.threat.vantage, sought, federated=False)
    return Truth(sought.ground_truth(sealed), sought.count(sealed), sealed)


def labels_truth(capture: Path, cell: Cell | None, launcher: Launcher) -> Truth:
    """Return the labels of a client's split training: its own record in a run, else those that crossed the link."""
    client = link_of(capture).removeprefix(TRAINING)
    if cell is not None and client in cell.clients:
        labels = ground_truth.trained_labels(cell, client)
    else:
        labels = _labels_on_the_link(capture, launcher)
    return Truth(labels, len(labels), unknown=tuple(np.flatnonzero(labels < 0).tolist()))


def _labels_on_the_link(capture: Path, launcher: Launcher) -> npt.NDArray[np.int64]:
    # Not in the attack's folder, which it reads.
    with tempfile.TemporaryDirectory() as scratch:
        path, log = Path(scratch) / "labels.npz", Path(scratch) / "labels.log"
        extract(launcher, "labels", "label", capture, path, log, ATTACK_SECONDS)
        with np.load(path, allow_pickle=False) as stored:
            labels: npt.NDArray[np.int64] = stored["label"].astype(np.int64)
    return labels
