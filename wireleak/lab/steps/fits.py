"""Add an attack's report on its fit to the results: held-out losses, maps of updates, profiles of layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from wireleak.common.targets.target import OWN
from wireleak.common.threat import PARTICIPANTS
from wireleak.common.traffic import OTHERS
from wireleak.lab.run import truth
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.job import AttackJob
from wireleak.lab.run.ranked import UpdateMap
from wireleak.lab.run.results import Fit
from wireleak.lab.steps.score import partly_read, read_meta


def fit_of(job: AttackJob) -> Fit:
    """Return a finished attack's report on its fit, with its map of updates labelled by the ground truth."""
    meta = read_meta(job)
    fit = meta["fit"] or {}
    profile = fit.get("profile") or []
    return Fit(
        variant=job.variant,
        seed=job.cell.seed,
        attack=job.use.shown,
        target=job.target,
        held_out_loss=_number(fit.get("held_out_loss")),
        ridge_loss=_number(meta.get("ridge", {}).get("validation_mse")),
        updates=_map(job.cell, job.target, fit["tsne"]) if fit.get("tsne") else None,
        incomplete=partly_read(job).get(OWN, ""),
        network=meta["granted"]["model"]["name"] if profile else "",
        profile=[{name: _kept(value) for name, value in layer.items()} for layer in profile],
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _kept(value: Any) -> Any:
    """Return a figure for JSON: None where it was not measured."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _map(cell: Cell, target: str, drawn: Mapping[str, Any]) -> UpdateMap:
    """Return the map of updates with true labels; updates without ground truth are left out."""
    units = [(sender, number) for sender, number in drawn["unit"]]
    vantage = PARTICIPANTS[0] if any(sender == OTHERS for sender, _ in units) else "link"
    values = truth.unit_attribute(cell, vantage, target).tolist()
    known = dict(zip(truth.units(cell, vantage, target), values, strict=True))
    kept = [(x, y, known[unit]) for unit, x, y in zip(units, drawn["x"], drawn["y"], strict=True) if unit in known]
    return UpdateMap(x=[x for x, _, _ in kept], y=[y for _, y, _ in kept], label=[value for _, _, value in kept])
