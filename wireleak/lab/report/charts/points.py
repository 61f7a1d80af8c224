"""Maps of points, such as t-SNE's, coloured by a label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wireleak.lab.report.charts import style

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_SPAN = re.compile(r"\d+ ?(-|–|to) ?\d+")
_LAYERS_OF_INK = 12
_SIDE, _EDGE = 220, 8
_GAP, _TITLE, _LINE, _TALL = 16, 34, 17, 5


def palette(classes: Sequence[str], skipped: int = 0) -> list[str]:
    """Return a colour for each class; ranges of numbers (ages) go from dark to light in their order.

    `skipped` leaves out the first colours, which another kind of label has in the same picture.
    """
    if sum(bool(_SPAN.search(name)) for name in classes) > len(classes) / 2:
        return [to_hex(style.ORDERED(share)) for share in np.linspace(0, 1, len(classes))]
    return style.colours(skipped + len(classes))[skipped:]


@dataclass(frozen=True)
class Panel:
    """One colouring of a map: two title lines, labels (n,), a colour for each label, and a key of colours and names."""

    title: tuple[str, str]
    labels: Ints
    colours: Sequence[str]
    key: Sequence[tuple[str, str]]


@style.chart
def point_map(places: Doubles, labels: Ints, colours: Sequence[str], names: Sequence[str] = ()) -> Figure:
    """Draw points (n, 2) in 0..1, with one colour for each label; `names` adds a key."""
    key = _LINE * len(names) + 6 if names else 0
    figure = style.new_figure(_SIDE, _SIDE + key)
    _draw(style.place(figure, 0.5, 0.5, 0.5, key + 0.5), places, labels, colours)
    if names:
        style.legend(figure, _dots(colours), names)
    return figure


@style.chart
def paired_maps(places: Doubles, panels: tuple[Panel, Panel], keys: bool = False) -> Figure:
    """Draw the same points (n, 2) in 0..1 twice, side by side, coloured by two kinds of labels.

    `keys` adds each panel's title lines and the names of its colours, in two columns where there are many.
    """
    columns = [2 if len(panel.key) > _TALL else 1 for panel in panels]
    lines = max(-(-len(panel.key) // count) for panel, count in zip(panels, columns, strict=True))
    title, key = (_TITLE, _LINE * lines + 10) if keys else (0, 0)
    width, height = 2 * _SIDE + _GAP, title + _SIDE + key
    figure = style.new_figure(width, height)
    for number, (panel, count) in enumerate(zip(panels, columns, strict=True)):
        left = number * (_SIDE + _GAP)
        axes = style.place(figure, left + 0.5, title + 0.5, width - left - _SIDE + 0.5, key + 0.5)
        _draw(axes, places, panel.labels, panel.colours)
        if keys:
            for line, words in enumerate(panel.title):
                figure.text(left / width, 1 - (12 + 15 * line) / height, words, fontsize=style.SMALL, color=style.INK)
            dots, names = _dots([colour for colour, _ in panel.key]), [name for _, name in panel.key]
            style.legend(figure, dots, names, count, bbox_to_anchor=(left / width, key / height), loc="upper left")
    return figure


def _dots(colours: Sequence[str]) -> list[Line2D]:
    return [Line2D([], [], color=colour, marker="o", markersize=7, linestyle="") for colour in colours]


def _draw(axes: Axes, places: Doubles, labels: Ints, colours: Sequence[str]) -> None:
    """Draw points in random order, so that no class covers the others."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_edgecolor(style.LINE)
    size = min(max(140 / np.sqrt(len(places)), 3), 9)
    room = (size / 2 + _EDGE / 4) / _SIDE
    axes.set_xlim(-room, 1 + room)
    axes.set_ylim(-room, 1 + room)
    order = np.random.default_rng(0).permutation(len(places))
    for ink in np.array_split(order, min(_LAYERS_OF_INK, len(order))):
        for label, colour in enumerate(colours):
            x, y = places[ink[labels[ink] == label]].T
            if len(x):
                # Strokes of length zero with round ends take a third of the bytes of markers.
                line = np.column_stack([x, x + 1e-4, np.full(len(x), np.nan)]).ravel()
                look = {"color": colour, "linewidth": size, "solid_capstyle": "round"}
                axes.plot(line, y.repeat(3), **look, alpha=0.8, snap=False)
