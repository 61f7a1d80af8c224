"""The report's part on the shared model's features: the probe and silhouettes over seeds, and a map of each variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.measures import quantity
from wireleak.lab.report.boards import SeedMean, task_means
from wireleak.lab.run.ranked import FeatureMap
from wireleak.lab.run.results import Results

PROBE, PROPERTY, TASK = "feature-probe", "feature-silhouette", "feature-silhouette-task"


@dataclass(frozen=True)
class Side:
    """The same places (n, 2) with one kind of label: labels (n,), the names of classes, and figures of this seed."""

    title: str
    figures: str
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def counts(self) -> list[int]:
        """Number of points of each class."""
        return [int((self.labels == number).sum()) for number in range(len(self.classes))]


@dataclass(frozen=True)
class FeaturePanels:
    """Two panels of one variant: features in two dimensions, coloured by the property and by the task.

    `honest` says whether the malicious participant only observed.
    """

    variant: str
    honest: bool
    places: npt.NDArray[np.float64]
    sides: tuple[Side, Side]


@dataclass(frozen=True)
class FeaturePage:
    """The part for one property; `rows` are each variant's means over seeds, None where a figure is missing."""

    attribute: str
    task: str
    sentence: str
    rows: dict[str, list[SeedMean | None]]
    panels: list[FeaturePanels]

    @property
    def examples(self) -> int:
        """Number of examples of the silhouettes, the largest over seeds."""
        return max((one.n for row in self.rows.values() for one in row[1:] if one), default=0)

    @property
    def intervals(self) -> bool:
        """Whether any value has an interval, as with two seeds or more."""
        return any(one.interval for row in self.rows.values() for one in row if one)


def feature_pages(results: Results, names: Mapping[str, str]) -> list[FeaturePage]:
    """Return one part for each property that malicious participants named, variants that only observe first."""
    first: dict[str, FeatureMap] = {}
    for one in sorted(results.features, key=lambda one: one.seed):
        first.setdefault(one.variant, one)
    means = {(one.variant, one.measure): one for one in task_means(results)}
    pages = []
    for attribute, task in dict.fromkeys((one.attribute, one.task) for one in results.features):
        shown = [first[name] for name in names if name in first and first[name].attribute == attribute]
        shown.sort(key=lambda one: not one.honest)
        rows = {one.variant: [means.get((one.variant, name)) for name in (PROBE, PROPERTY, TASK)] for one in shown}
        panels = [_panels(results, one) for one in shown if one.x]
        pages.append(FeaturePage(attribute, task, _sentence(attribute, shown, rows, names), rows, panels))
    return pages


def _panels(results: Results, one: FeatureMap) -> FeaturePanels:
    own = {task.measure: task.value for task in results.tasks if (task.variant, task.seed) == (one.variant, one.seed)}

    def side(by: str, labels: Sequence[int], classes: Sequence[str], figures: Mapping[str, str]) -> Side:
        said = [f"{label}\u00a0{quantity(name).write(own[name])}" for name, label in figures.items() if name in own]
        return Side(f"by {by}", ", ".join(said), np.array(labels, np.int64), tuple(classes))

    sides = (
        side(one.attribute, one.values, one.property_classes, {PROBE: "probe\u00a0AUC", PROPERTY: "silhouette"}),
        side(one.task, one.labels, one.task_classes, {TASK: "silhouette"}),
    )
    return FeaturePanels(one.variant, one.honest, np.stack([one.x, one.y], 1), sides)


def _sentence(
    attribute: str,
    shown: Sequence[FeatureMap],
    rows: Mapping[str, Sequence[SeedMean | None]],
    names: Mapping[str, str],
) -> str:
    """Say how well the features tell the property: where the participant only observes, and where it steers."""
    found = {
        honest: [
            (names[one.variant], probe) for one in shown if one.honest is honest and (probe := rows[one.variant][0])
        ]
        for honest in (True, False)
    }
    where = {
        True: "where the malicious participant only observes",
        False: "where it steers the model" if found[True] else "where the malicious participant steers the model",
    }
    said = [f"{_span(scores)} {where[honest]}" for honest, scores in found.items() if scores]
    if not said:
        return f"No probe for {attribute} could be fitted; the notes say why."
    return f"A linear probe reads {attribute} from the shared model's features with AUC {', and with '.join(said)}."


def _span(scores: Sequence[tuple[str, SeedMean]]) -> str:
    """Return the lowest and the highest score, with the names of their variants."""
    ordered = sorted(scores, key=lambda one: one[1].value)
    ends = [f"{one.written} ({name})" for name, one in (ordered[0], ordered[-1])]
    return " to ".join(dict.fromkeys(ends))
