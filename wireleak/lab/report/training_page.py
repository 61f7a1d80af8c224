"""What the report shows of attacks on federated training beside their scores: maps of updates, leakage by layer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from wireleak.lab.report.charts import localise_figures
from wireleak.lab.report.charts.layer_figures import palette, scatter
from wireleak.lab.report.charts.localise_figures import Map
from wireleak.lab.run import truth
from wireleak.lab.steps.again_updates import cell_of
from wireleak.lab.study.schema import StudyError


@dataclass(frozen=True)
class PointMap:
    """Updates in two dimensions, coloured by what was behind them."""

    variant: str
    attack: str
    target: str
    picture: Markup
    legend: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class TrainingPage:
    """The report's section; empty where no attack left anything for it."""

    points: list[PointMap] = field(default_factory=list)
    localised: list[Map] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.points or self.localised)


def training_page(run: Path) -> TrainingPage:
    """Read a run's folder; of maps, each variant's first seed is shown."""
    if not (run / "plan.json").is_file():
        return TrainingPage()
    points: dict[tuple[str, str], PointMap] = {}
    for path in sorted(run.glob("*/adversary/*/meta.json"), key=_by_seed):
        meta = json.loads(path.read_text())
        drawn = (meta.get("fit") or {}).get("tsne")
        if not drawn:
            continue
        variant, shown = path.parts[-4].rpartition("-seed")[0], path.parent.name
        if (variant, shown) not in points and (one := _point_map(path.parents[2], meta, drawn, shown)) is not None:
            points[variant, shown] = one
    return TrainingPage(list(points.values()), localise_figures.maps(localise_figures.read_rows(run)))


def _point_map(folder: Path, meta: dict[str, Any], drawn: dict[str, Any], shown: str) -> PointMap | None:
    try:
        cell = cell_of(folder)
    except StudyError:
        return None
    units = [tuple(unit) for unit in drawn["unit"]]
    vantage = truth.PARTICIPANTS[0] if any(sender == truth.OTHERS for sender, _ in units) else "link"
    known = dict(
        zip(
            truth.units(cell, vantage, meta["target"]), truth.unit_attribute(cell, vantage, meta["target"]), strict=True
        )
    )
    kept = [number for number, unit in enumerate(units) if unit in known]
    labels = np.array([known[units[number]] for number in kept], np.int64)
    places = np.stack([np.array(drawn[axis], float)[kept] for axis in ("x", "y")], 1)
    span = np.ptp(places, axis=0)
    places = (places - places.min(0)) / np.where(span, span, 1.0)
    classes = [f"{meta['target']} {value}" for value in range(int(labels.max(initial=1)) + 1)]
    colours = palette(classes)
    said = f"{len(labels)} updates of {cell.variant.name}, coloured by {meta['target']}"
    legend = tuple(
        (colour, name, int((labels == k).sum())) for k, (colour, name) in enumerate(zip(colours, classes, strict=True))
    )
    attack = shown.removesuffix(f"-{meta['target']}")
    return PointMap(cell.variant.name, attack, meta["target"], scatter(places, labels, colours, said), legend)


def _by_seed(path: Path) -> tuple[int, str]:
    seed = path.parts[-4].rpartition("-seed")[2]
    return (int(seed) if seed.isdigit() else 0, str(path))
