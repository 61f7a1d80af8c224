"""Attack a recorded federated training again, from a vantage that the user chooses."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from wireleak.common.targets.registry import target_of
from wireleak.common.threat import PARTICIPANTS
from wireleak.lab.recorded.request import Request
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.job import AttackJob
from wireleak.lab.run.layout import CellFolder, link_of
from wireleak.lab.run.seeds import Seeds
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


def training_job(request: Request, attack: dict[str, Any]) -> AttackJob:
    """Return an attack on all of a cell's captures of Flower's links, after the checks that need no process.

    Raises
    ------
    StudyError
        The capture is not a link of a federated training, the attack does not work from this vantage, or the run has no
        such target.
    """
    cell = cell_of(request.cell)
    captures = {link_of(path): path.name for path in cell.captures("fleet-*")}
    if link_of(request.capture) not in captures:
        raise StudyError(
            f"CAPTURE: {request.capture.name} is none of this run's links of a federated training, and "
            f"{request.attack} reads all of them; give one of {', '.join(captures.values()) or 'none'}"
        )
    places = attack["threat"]["vantage"]
    vantage = request.vantage or places[0]
    if vantage not in places:
        raise StudyError(f"--vantage: {request.attack} works from {' or '.join(places)}, not from {vantage!r}")
    if vantage == "server" and not cell.received(cell.clients[0]).is_dir():
        raise StudyError("--vantage: the server kept no updates in this run; use link, which shows the same updates")
    hidden = cell.variant.encrypted or cell.plan.secure
    if hidden and (vantage not in PARTICIPANTS or not cell.kept.is_dir()) and vantage != "server":
        raise StudyError(f"--vantage: TLS or masks hide this run's updates from {vantage}; use server or participant")
    if target_of(request.target).grants and not cell.records.is_file():
        raise StudyError(
            '--target: this run granted no records to the attacker; use a run of a study with target "member"'
        )
    use = AttackUse(name=request.attack, targets=(request.target,), vantage=vantage, options=request.settings)
    return AttackJob(cell, use, request.target, request.guesses.path)
