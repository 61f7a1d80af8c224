"""Traffic of a variant's links: bytes by kind as bars."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from wireleak.lab.report.charts import style

_LABELS, _ROW, _AMOUNT = 128, 26, 66


@dataclass(frozen=True)
class Bar:
    """Bytes of one kind; `opaque` bytes cannot be read."""

    kind: str
    bytes: int
    opaque: bool = False


@style.chart
def traffic(bars: Sequence[Bar], most: int) -> Figure:
    """Draw one bar for each kind on an axis from 0 to `most` bytes; hatched bars cannot be read."""
    figure = style.new_figure(style.COLUMN, _ROW * len(bars) + 8)
    axes = style.place(figure, _LABELS, 2, _AMOUNT, 6)
    axes.set_xlim(0, most or 1)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_axis_off()
    write = EngFormatter(unit="B", places=1)
    for row, bar in enumerate(bars):
        width = max(bar.bytes, 0.004 * most)
        face, hatch = ("white", "////") if bar.opaque else (style.BLUE, None)
        (drawn,) = axes.barh([row], [width], 0.6, facecolor=face, hatch=hatch, edgecolor=style.BLUE, linewidth=0.8)
        amount = write(bar.bytes) if bar.bytes >= 1000 else f"{bar.bytes:,} B"
        style.describe(drawn, f"{bar.kind}: {amount}")
        across = axes.get_yaxis_transform()
        label = "\n".join(textwrap.wrap(bar.kind, 19)[:2])
        axes.text(-0.04, row, label, transform=across, ha="right", va="center", linespacing=1)
        axes.annotate(amount, (width, row), (5, 0), textcoords="offset points", va="center", color=style.GREY)
    return figure
