"""Exposure of planted numbers against how often each was planted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from wireleak.lab.report.charts import style

_WIDTH, _HEIGHT, _KEY = 560, 250, 17


@dataclass(frozen=True)
class Curve:
    """Exposure in bits by count: `(times planted, value, low, high)`, the ends NaN where there is no interval."""

    label: str
    points: tuple[tuple[int, float, float, float], ...]


@style.chart
def exposure(curves: Sequence[Curve], top: float, chance: float | None) -> Figure:
    """Draw each curve on a logarithmic axis of insertions.

    `top` is the exposure of the likeliest number of all; `chance` is that of a number which the model never saw.
    """
    figure = style.new_figure(_WIDTH, _HEIGHT + _KEY * (len(curves) + 2))
    axes = style.place(figure, 44, 8, 10, 42 + _KEY * (len(curves) + 2))
    times = sorted({point[0] for curve in curves for point in curve.points})
    axes.set_xscale("log", base=2)
    axes.set_xlim(times[0] / 1.25, times[-1] * 1.25)
    axes.set_ylim(0, 1.06 * top)
    axes.set_xticks(times, list(map(str, times)))
    axes.set_xticks([], minor=True)
    axes.grid(True)
    axes.set_xlabel("times planted")
    axes.set_ylabel("exposure, bits")
    handles = []
    for number, curve in enumerate(curves):
        # Shift whiskers of the same count, so that they do not overlap.
        shift = 1.02 ** (number - (len(curves) - 1) / 2)
        points = sorted(curve.points)
        x, value, low, high = (np.array(column, float) for column in zip(*points, strict=True))
        said = [f"{curve.label}, planted {count} times: {bits:.1f} bits" for count, bits, *_ in points]
        handles.append(style.curve(axes, number, x * shift, value, said, (low, high)))
    likeliest = axes.axhline(top, color=style.GREEN, linewidth=1.5)
    labels = [curve.label for curve in curves]
    if chance is not None:
        never = axes.axhline(chance, color=style.GREY, linewidth=1, dashes=(2, 2))
        handles.append(never)
        labels.append("a number that the model never saw")
    style.legend(figure, [*handles, likeliest], [*labels, "the likeliest number of all"])
    return figure
