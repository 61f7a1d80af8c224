"""Maps of points, such as t-SNE's, coloured by a label."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wireleak.lab.report.charts import style

_SPAN = re.compile(r"\d+ ?(-|–|to) ?\d+")
_LAYERS_OF_INK = 12
_SIDE, _EDGE = 220, 8


def palette(classes: Sequence[str]) -> list[str]:
    """Return a colour for each class; ranges of numbers (ages) go from dark to light in their order."""
    if sum(bool(_SPAN.search(name)) for name in classes) > len(classes) / 2:
        return [to_hex(style.ORDERED(share)) for share in np.linspace(0, 1, len(classes))]
    return style.colours(len(classes))


@style.chart
def point_map(
    places: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], colours: Sequence[str], names: Sequence[str] = ()
) -> Figure:
    """Draw points (n, 2) in 0..1, with one colour for each label; `names` adds a key.

    Points are drawn in random order, so that no class covers the others.
    """
    key = 17 * len(names) + 6 if names else 0
    figure = style.new_figure(_SIDE, _SIDE + key)
    axes = style.place(figure, 0.5, 0.5, 0.5, key + 0.5)
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
    if names:
        dots = [Line2D([], [], color=colour, marker="o", markersize=7, linestyle="") for colour in colours]
        style.legend(figure, dots, names)
    return figure
