"""Charts of a link under TLS: the sizes and times of its records."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from wireleak.common.words import counted
from wireleak.lab.report.charts import style
from wireleak.lab.run.results import Burst

_WIDTH, _HEIGHT = 500, 200
_bytes, _seconds = EngFormatter(unit="B", places=1), EngFormatter(unit="s")


@style.chart
def record_sizes(bursts: Sequence[Burst]) -> Figure:
    """Draw a histogram of record sizes (bytes, up and down) on a logarithmic axis."""
    sizes = np.array([max(burst.bytes, 1) for burst in bursts])
    up = np.array([burst.up for burst in bursts])
    top = max(math.ceil(math.log10(float(sizes.max())) + 1e-9), 2)
    edges = np.logspace(0, top, 8 * top + 1)
    counts = [np.histogram(sizes[chosen], edges)[0].astype(float) for chosen in (up, ~up)]
    figure, axes = _two_sided(counts, np.log10(edges), lambda number: counted(round(number), "record"))
    axes.set_xticks(range(top + 1), [EngFormatter(unit="B")(10**power) for power in range(top + 1)])
    axes.set_xlabel("bytes per record")
    return figure


@style.chart
def timeline(bursts: Sequence[Burst], bins: int = 80) -> Figure:
    """Draw bytes over time, up and down, from the first byte of a link to the last."""
    times = np.array([burst.time for burst in bursts])
    times = times - times.min()
    weights = np.array([float(burst.bytes) for burst in bursts])
    up = np.array([burst.up for burst in bursts])
    edges = np.linspace(0, float(times.max()) or 1.0, bins + 1)
    amounts = [np.histogram(times[chosen], edges, weights=weights[chosen])[0] for chosen in (up, ~up)]
    figure, axes = _two_sided(amounts, edges, lambda number: _bytes(number))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(_seconds)
    axes.set_xlabel("since the link's first byte")
    return figure


def _two_sided(
    amounts: Sequence[npt.NDArray[np.float64]], edges: npt.NDArray[np.float64], write: Callable[[float], str]
) -> tuple[Figure, Axes]:
    """Draw upstream columns above the axis and downstream columns below it."""
    figure = style.new_figure(_WIDTH, _HEIGHT)
    axes = style.place(figure, 18, 22, 26, 62)
    most = max(float(side.max()) for side in amounts) or 1.0
    for side, colour, sign in zip(amounts, (style.BLUE, style.GOLD), (1, -1), strict=True):
        present = side > 0
        # Keep low columns visible.
        heights = sign * np.maximum(side[present], 0.02 * most)
        widths = 0.86 * np.diff(edges)[present]
        columns = axes.bar(edges[:-1][present], heights, widths, align="edge", color=colour)
        for column, amount in zip(columns, side[present], strict=True):
            style.describe(column, write(float(amount)))
    axes.axhline(0, color=style.INK, linewidth=0.8)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(-1.08 * most, 1.08 * most)
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    words: dict[str, Any] = {"transform": axes.transAxes, "color": "#4a4a4a"}
    axes.text(0, 1.03, f"client to server; tallest column {write(most)}", va="bottom", **words)
    axes.tick_params(axis="x", pad=18)
    axes.text(0, -0.05, "server to client", va="top", **words)
    return figure, axes
