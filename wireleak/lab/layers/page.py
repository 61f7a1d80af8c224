"""The page on a network's layers and the terminal's table, both from `layers.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from wireleak.common.files import write_atomically
from wireleak.common.words import decimal
from wireleak.lab.report.charts import style
from wireleak.lab.report.charts.layer_lines import Line, layer_lines, layer_lines_key
from wireleak.lab.report.charts.points import palette, point_map
from wireleak.lab.run.layout import CellFolder

if TYPE_CHECKING:
    from rich.table import Table

INPUT, TASK_ALONE = "input", "task label alone"
TRAINED = Line("the trained network, 95 % interval", style.BLUE, ())
UNTRAINED = Line("the same network before training", style.ORANGE, (), dashed=True)
CHARTS = (("auc", "Probe AUC"), ("bits", "V-information, bits"), ("dcor", "Distance correlation"))


class Profile:
    """Access to the figures of `layers.json`; NaN where one was not measured."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.layers: list[dict[str, Any]] = document["layers"]
        self.targets: list[dict[str, Any]] = document["targets"]
        self._figures = {
            (one["layer"], one["target"], one["network"], one["measure"]): one for one in document["figures"]
        }

    def get(self, layer: str, target: str, measure: str, network: str = "trained") -> dict[str, Any] | None:
        """Return one figure; None where it was not measured."""
        if layer == INPUT:
            network = "trained"  # the input has no weights, so both networks agree on it
        return self._figures.get((layer, target, network, measure))

    def number(self, layer: str, target: str, measure: str, network: str = "trained", what: str = "value") -> float:
        """Return one number of a figure."""
        found = self.get(layer, target, measure, network)
        return math.nan if found is None or found[what] is None else float(found[what])

    def over_layers(self, target: str, measure: str, network: str = "trained", what: str = "value") -> list[float]:
        """Return one number of the figure of every layer."""
        return [self.number(layer["name"], target, measure, network, what) for layer in self.layers]

    @property
    def wire(self) -> int:
        """Index of the layer that crosses the wire."""
        return next(place for place, layer in enumerate(self.layers) if layer["side"] == "wire")

    @property
    def columns(self) -> list[str]:
        """Short names of the layers."""
        return ["input", *(str(place) for place in range(1, len(self.layers) - 1)), "soft"]


@dataclass(frozen=True)
class Sentence:
    """The finding about one private attribute."""

    tag: str
    outcome: str
    target: str
    text: str


def write_page(cell: CellFolder) -> Path:
    """Write a cell's `layers.html` from its `layers.json`, atomically, as one self-contained file."""
    document = json.loads(cell.layers.read_text())
    return write_atomically(cell.layers_page, page(document).encode())


def page(document: dict[str, Any]) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "report" / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": write, "share": percent}
    profile = Profile(document)
    return environment.get_template("layers.html.j2").render(
        document=document,
        profile=profile,
        sentences=[sentence(profile, target) for target in profile.targets if target["kind"] == "attribute"],
        maps=[_maps(document, target) for target in profile.targets],
        charts=[(target, _charts(profile, target["name"])) for target in profile.targets],
        of_input=_chart(profile, INPUT, "dcor"),
        key=_key(document),
        measures=CHARTS,
        alone=TASK_ALONE,
    )


def sentence(profile: Profile, target: dict[str, Any]) -> Sentence:
    """Return, by rule, whether the wire's layer reveals an attribute beyond the task's label."""
    name, at = target["name"], profile.layers[profile.wire]

    def auc(layer: str, network: str = "trained") -> str:
        return write(profile.number(layer, name, "auc", network), 2)

    wire = profile.get(at["name"], name, "auc") or {}
    bits = profile.get(at["name"], name, "bits") or {}
    bars = [
        profile.number(TASK_ALONE, name, "auc", what="high"),
        profile.number(at["name"], name, "auc", what="null_high"),
    ]
    beyond = wire["low"] > max(bar for bar in [*bars, 0.5] if not math.isnan(bar))
    text = (
        f"On the wire ({at['title']}, {at['floats']:,} floats) a probe predicts it with AUC {written(wire, 2)}, "
        f"{write(bits['value'], 2)} of {write(bits['value'] / bits['share'], 2)} bits. "
        f"AUC from the input itself is {auc(INPUT)}, from the softmax {auc('softmax')}, from only the true task label "
        f"{auc(TASK_ALONE)}, and from the same layer of the untrained network {auc(at['name'], 'untrained')}."
    )
    gain = profile.number(at["name"], name, "auc") - profile.number(at["name"], name, "auc", "untrained")
    if beyond and gain < 0.02:
        text += " The untrained layer passes as much, so the architecture lets it through; training did not learn it."
    peak = max(profile.layers[1:], key=lambda layer: profile.number(layer["name"], name, "auc"))
    if peak is not at:
        text += (
            f" Of all layers, {peak['title']} reveals most: {written(profile.get(peak['name'], name, 'auc'), 2)}, "
            f"untrained {auc(peak['name'], 'untrained')}."
        )
    tag, outcome = ("readable beyond the task", "leak") if beyond else ("not beyond the task", "none")
    return Sentence(tag, outcome, name, text)


def _maps(
    document: dict[str, Any], target: dict[str, Any]
) -> tuple[dict[str, Any], list[tuple[str, str]], list[Markup]]:
    colours = palette(target["classes"])
    labels = np.array(document["labels"][target["name"]])
    named = [f"{name} ({count})" for name, count in zip(target["classes"], target["counts"], strict=True)]
    pictures = [
        style.inline(
            point_map(np.array(document["maps"][layer["name"]]), labels, colours),
            f"t-SNE of {layer['title']}, coloured by {target['name']}",
        )
        for layer in document["layers"]
    ]
    return target, list(zip(named, colours, strict=True)), pictures


def _key(document: dict[str, Any]) -> Markup:
    null = f"null: labels permuted, mean to largest of {document['permutations']}"
    said = "Key to the charts: round marks show the trained network, square marks the same network before training"
    return style.inline(layer_lines_key([TRAINED, UNTRAINED], "only the true task label", null), said)


def _charts(profile: Profile, target: str) -> list[Markup]:
    return [_chart(profile, target, measure) for measure, _ in CHARTS]


def _chart(profile: Profile, target: str, measure: str) -> Markup:
    trained, untrained = (profile.over_layers(target, measure, network) for network in ("trained", "untrained"))
    ends = [profile.over_layers(target, measure, what=what) for what in ("low", "high")]
    lines = [
        replace(UNTRAINED, values=untrained),
        replace(TRAINED, values=trained, low=ends[0], high=ends[1]),
    ]
    null = [profile.over_layers(target, measure, what=what) for what in ("null_mean", "null_high")]
    band = (null[0], null[1]) if any(math.isfinite(value) for value in null[1]) else None
    alone = profile.number(TASK_ALONE, target, measure)
    level = None if math.isnan(alone) else alone
    limits = {"auc": (0.5, 1.0), "dcor": (0.0, 1.0)}.get(measure, (0.0, None))
    said = f"{measure} of {target} over the layers: " + ", ".join(
        f"{layer['title']} {write(value)}" for layer, value in zip(profile.layers, trained, strict=True)
    )
    drawn = layer_lines(profile.columns, profile.wire, lines, limits, band=band, level=level)
    return style.inline(drawn, said)


def write(value: float | None, places: int = 3) -> str:
    """Return a number as text."""
    if value is None or math.isnan(value):
        return "–"
    return decimal(value, f".{places}f")


def percent(share: float | None) -> str:
    """Return a share as a percentage, without a sign at zero."""
    return "–" if share is None else f"{write(100 * share, 0)}\u00a0%"


def written(figure: dict[str, Any] | None, places: int = 3) -> str:
    """Return a figure as text, with its interval if it has one."""
    if figure is None:
        return "–"
    value = write(figure["value"], places)
    if figure["low"] is None:
        return value
    return f"{value} [{write(figure['low'], places)}, {write(figure['high'], places)}]"


def summary_table(document: dict[str, Any]) -> Table:
    """Return the terminal's table: AUC and bits of every layer about every target, and the untrained network's AUC."""
    from rich import box
    from rich.table import Table

    profile = Profile(document)
    title = f"{document['study']}, {document['variant']}, seed {document['seed']}: private information in each layer"
    table = Table(title=title, title_justify="left", box=box.HORIZONTALS, padding=0)
    for name in ("target", "layer", "AUC [95 %]", "null", "untrained", "bits", "of H"):
        table.add_column(name, justify="left" if name in ("target", "layer") else "right")
    for target in profile.targets:
        rows: Sequence[tuple[str, str]] = [(layer["name"], _marked(layer)) for layer in profile.layers]
        if target["kind"] == "attribute":
            rows = [*rows, (TASK_ALONE, TASK_ALONE)]
        for place, (layer, shown) in enumerate(rows):
            bits = profile.get(layer, target["name"], "bits") or {"value": None, "share": None}
            table.add_row(
                target["name"] if place == 0 else "",
                shown,
                written(profile.get(layer, target["name"], "auc")),
                write(profile.number(layer, target["name"], "auc", what="null_mean")),
                write(profile.number(layer, target["name"], "auc", "untrained")) if layer != INPUT else "",
                write(bits["value"]),
                percent(bits["share"]),
                end_section=place == len(rows) - 1,
            )
    return table


def _marked(layer: dict[str, Any]) -> str:
    return f"{layer['title']} (wire)" if layer["side"] == "wire" else str(layer["title"])
