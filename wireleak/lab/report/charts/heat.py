"""A heat map of layers by quantities: each column goes from white (nothing) to its own maximum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from wireleak.lab.report.charts import style

LEAST = 560
_WIDTH, _LABELS, _HEAD, _ROW = 660, 92, 56, 36


@dataclass(frozen=True)
class HeatRow:
    """A row: a layer's title and its number of weights."""

    title: str
    parameters: int


@dataclass(frozen=True)
class Column:
    """A quantity over the layers.

    `floor` is the value without any leakage, white in the map. `written` are the figures as text, `said` as tooltips.
    """

    group: str
    heading: str
    unit: str
    floor: float
    values: tuple[float, ...]
    written: tuple[str, ...]
    said: tuple[str, ...]


@style.chart
def heat_map(layers: Sequence[HeatRow], columns: Sequence[Column]) -> Figure:
    """Draw a row for each layer, the first on top, and a column for each quantity."""
    height = _HEAD + _ROW * len(layers)
    figure = style.new_figure(_WIDTH, height + 2)
    axes = style.place(figure, 0, 0, 0, 0)
    axes.set_axis_off()
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(height + 2, 0)
    wide = (_WIDTH - _LABELS - 4) / len(columns)
    for name, members in groupby(range(len(columns)), key=lambda place: columns[place].group):
        places = list(members)
        left, right = (_LABELS + end * wide for end in (places[0], places[-1] + 1))
        axes.text(left + 4, 14, name, fontweight="bold")
        axes.plot([left + 4, right - 4], [20, 20], color=style.INK, linewidth=1)
    for place, column in enumerate(columns):
        left = _LABELS + place * wide
        axes.text(left + wide / 2, 35, column.heading, ha="center", color="#4a4a4a")
        axes.text(left + wide / 2, 49, column.unit, ha="center", color="#4a4a4a")
        for row, share in enumerate(_shares(column)):
            y = _HEAD + row * _ROW
            box = Rectangle((left + 1, y + 1), wide - 2, _ROW - 2, facecolor=style.DEPTH(share), edgecolor=style.LINE)
            style.describe(axes.add_patch(box), f"{layers[row].title}, {column.said[row]}")
            weight = "bold" if share == 1 else "normal"
            middle = y + _ROW / 2
            axes.text(
                left + wide / 2, middle, column.written[row], ha="center", va="center", fontsize=12, fontweight=weight
            )
    for row, layer in enumerate(layers):
        axes.text(0, _HEAD + row * _ROW + 15, layer.title, fontsize=12)
        axes.text(0, _HEAD + row * _ROW + 29, f"{layer.parameters:,}", color="#4a4a4a")
    return figure


def _shares(column: Column) -> list[float]:
    """Return each value's position between the floor and the column's maximum, in [0, 1]."""
    most = max((value for value in column.values if math.isfinite(value)), default=column.floor)
    if most <= column.floor:
        return [0.0] * len(column.values)
    shares = [(value - column.floor) / (most - column.floor) for value in column.values]
    return [min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0 for share in shares]
