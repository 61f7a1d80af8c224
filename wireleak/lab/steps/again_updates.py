"""Attack a recorded federated training again, from a vantage that the user chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wireleak.common.targets.registry import target_of
from wireleak.common.threat import PARTICIPANTS
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.job import AttackJob
from wireleak.lab.run.layout import CellFolder
from wireleak.lab.run.results import Row
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.steps.attack import run_attack
from wireleak.lab.steps.score import score_job
from wireleak.lab.study.schema import Study, StudyError
from wireleak.lab.study.tables import AttackUse


def cell_of(files: CellFolder) -> Cell:
    """Return the cell of a folder, from its run's plan.

    Raises
    ------
    StudyError
        The folder is not a cell of a run.
    """
    try:
        study = Study.model_validate(json.loads(files.run.plan.read_text())["study"])
        model = json.loads(files.config("client-0").read_text())["model"]
        variant = next(one for one in study.variants if one.name == files.variant)
        shape, classes = tuple(model["input_shape"]), model["classes"]
    except (OSError, ValueError, KeyError, StopIteration, ValidationError):
        raise StudyError(
            f"CAPTURE: {files.folder} is not inside a run folder. Attacks on updates need the training settings stored "
            "there; pass a capture from a run"
        ) from None
    secret = Seeds.read(files.run.secret, "CAPTURE", repeated=True)
    return Cell(study, variant, int(files.seed), files.run.path, shape, classes, secret)


def attack_training(
    files: CellFolder,
    attack: Mapping[str, Any],
    target: str,
    vantage: str | None,
    options: dict[str, Any],
    out: Path,
    launcher: Launcher,
) -> list[Row]:
    """Run an attack on a cell's captures of Flower's links and return its scores.

    Parameters
    ----------
    files : CellFolder
        The cell's folder.
    attack : mapping
        The adversary's description of the attack.
    target, vantage : str
        Target and vantage; a vantage of None takes the attack's first one.
    options : dict
        Options of the attack.
    out : Path
        Folder for its guesses.
    launcher : Launcher

    Raises
    ------
    StudyError
        The attack does not work from this vantage, or the run has no such target.
    """
    cell = cell_of(files)
    places = attack["threat"]["vantage"]
    vantage = vantage or places[0]
    if vantage not in places:
        raise StudyError(f"--vantage: {attack['name']} works from {' or '.join(places)}, not from {vantage!r}")
    if vantage == "server" and not cell.received(cell.clients[0]).is_dir():
        raise StudyError("--vantage: the server kept no updates in this run; use link, which shows the same updates")
    hidden = cell.variant.encrypted or cell.plan.secure
    if hidden and (vantage not in PARTICIPANTS or not cell.kept.is_dir()) and vantage != "server":
        raise StudyError(f"--vantage: TLS or masks hide this run's updates from {vantage}; use server or participant")
    if target_of(target).grants and not cell.records.is_file():
        raise StudyError(
            '--target: this run granted no records to the attacker; use a run of a study with target "member"'
        )
    with_ = AttackUse(name=attack["name"], targets=(target,), vantage=vantage, options=options)
    job = AttackJob(cell, with_, target, out)
    run_attack(job, launcher, dict(attack))
    return score_job(job)
