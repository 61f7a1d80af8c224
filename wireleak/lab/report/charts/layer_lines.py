"""One measure over the layers of a network: trained, untrained, and under chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from wireleak.lab.report.charts import style

_WIDTH, _HEIGHT = 360, 190
_ROW = 17


@dataclass(frozen=True)
class Line:
    """Values over the layers, NaN where there is none; `low` and `high` draw whiskers."""

    name: str
    colour: str
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dashed: bool = False


@style.chart
def layer_lines(
    columns: Sequence[str],
    wire: int,
    lines: Sequence[Line],
    limits: tuple[float | None, float | None],
    *,
    band: tuple[Sequence[float], Sequence[float]] | None = None,
    level: float | None = None,
) -> Figure:
    """Draw lines over the layers.

    Parameters
    ----------
    columns : sequence of str
        Short names of the layers, left to right.
    wire : int
        Index of the layer that crosses the wire.
    lines : sequence of Line
    limits : pair of float or None
        Values that the axis always contains.
    band : pair of sequences, optional
        Lower and upper edge of the null.
    level : float, optional
        A value that is the same for all layers, dotted.
    """
    every = [value for line in lines for ends in (line.values, line.low, line.high) for value in ends]
    every += [*(band[1] if band else ()), *([level] if level is not None else ())]
    low, high, ticks = style.round_axis(every, *limits)
    figure = style.new_figure(_WIDTH, _HEIGHT)
    axes = style.place(figure, 40, 20, 6, 24)
    xs = np.arange(len(columns))
    axes.axvspan(wire - 0.42, wire + 0.42, color=style.SHADE, linewidth=0)
    axes.text(wire, 1.02, "wire", transform=axes.get_xaxis_transform(), ha="center", va="bottom", color="#4a4a4a")
    axes.set_xticks(xs, list(columns))
    axes.set_yticks(ticks)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(low, high)
    axes.grid(True, axis="y")
    if band is not None:
        axes.fill_between(xs, *np.array(band, float), color=style.PALE, linewidth=2)
    if level is not None:
        axes.axhline(level, color=style.GREY, linewidth=1.6, linestyle=(0, (1.5, 2)))
    for line in lines:
        marker, dashes = ("s", "--") if line.dashed else ("o", "-")
        there = np.isfinite(np.array(line.values, float))
        shown = np.array(line.values, float)[there]
        axes.plot(xs[there], shown, dashes, marker=marker, color=line.colour, linewidth=2, markersize=6, clip_on=False)
        if line.low:
            axes.vlines(xs, line.low, line.high, colors=line.colour, linewidth=2.5, alpha=0.45)
    return figure


@style.chart
def layer_lines_key(lines: Sequence[Line], level: str, band: str) -> Figure:
    """Draw the key of all charts of layers."""
    figure = style.new_figure(style.COLUMN, _ROW * (len(lines) + 2) + 4)
    handles = [
        *(
            Line2D(
                [], [], color=line.colour, linestyle="--" if line.dashed else "-", marker="s" if line.dashed else "o"
            )
            for line in lines
        ),
        Line2D([], [], color=style.GREY, linewidth=1.6, linestyle=(0, (1.5, 2))),
        Patch(color=style.PALE),
    ]
    style.legend(figure, handles, [*(line.name for line in lines), level, band])
    return figure
