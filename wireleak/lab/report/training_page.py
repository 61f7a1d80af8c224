"""The report's section on federated training: scores by round, maps of updates and features, and leakage by layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wireleak.common.reads import Marked
from wireleak.lab.report.boards import SeedMean, summarise
from wireleak.lab.report.features import FeaturePage, feature_pages
from wireleak.lab.report.findings import titles
from wireleak.lab.report.localised import Map, maps
from wireleak.lab.run.ranked import UpdateMap
from wireleak.lab.run.results import Fit, Results


@dataclass(frozen=True)
class PointMap(Marked):
    """Updates in two dimensions, (n, 2) in 0..1, with their true labels and the names of the classes."""

    variant: str
    attack: str
    target: str
    places: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    incomplete: str = ""

    @property
    def counts(self) -> list[int]:
        """Number of updates of each class."""
        return [int((self.labels == number).sum()) for number in range(len(self.classes))]


@dataclass(frozen=True)
class Windows:
    """An attack's score in windows of rounds: the scores over seeds of each variant, in the order of the rounds."""

    attack: str
    target: str
    measure: str
    variants: dict[str, list[SeedMean]]


@dataclass(frozen=True)
class TrainingPage:
    """Contents of the section; false where no attack produced any."""

    windows: list[Windows] = field(default_factory=list)
    points: list[PointMap] = field(default_factory=list)
    features: list[FeaturePage] = field(default_factory=list)
    localised: list[Map] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.windows or self.points or self.features or self.localised)


def training_page(results: Results) -> TrainingPage:
    """Collect scores by round and profiles of layers (all seeds), and each variant's maps (first seed)."""
    points: dict[tuple[str, str, str], PointMap] = {}
    for fit in sorted(results.fits, key=lambda one: one.seed):
        if fit.updates is not None:
            points.setdefault((fit.variant, fit.attack, fit.target), _point_map(fit, fit.updates))
    features = feature_pages(results, titles(results))
    return TrainingPage(_windows(results), list(points.values()), features, maps(profiles(results)))


def _windows(results: Results) -> list[Windows]:
    found: dict[tuple[str, str, str], Windows] = {}
    for one in summarise(row for row in results.rows if row.role == "window"):
        key = (one.attack, one.target, one.measure)
        found.setdefault(key, Windows(*key, {})).variants.setdefault(one.variant, []).append(one)
    return list(found.values())


def profiles(results: Results) -> list[dict[str, Any]]:
    """Return the rows for `maps`: one for each fit that measured layers."""
    return [
        {name: getattr(fit, name) for name in ("variant", "seed", "network", "target", "profile", "incomplete")}
        | {"dataset": results.dataset}
        for fit in results.fits
        if fit.profile
    ]


def _point_map(fit: Fit, updates: UpdateMap) -> PointMap:
    labels, places = np.array(updates.label, np.int64), np.stack([updates.x, updates.y], 1)
    span = np.ptp(places, axis=0)
    places = (places - places.min(0)) / np.where(span, span, 1.0)
    classes = tuple(f"{fit.target} {value}" for value in range(int(labels.max(initial=1)) + 1))
    return PointMap(fit.variant, fit.attack, fit.target, places, labels, classes, fit.incomplete)
