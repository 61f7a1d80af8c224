"""ROC curves: the rate of true positives against that of false positives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wireleak.lab.report.charts import style

Doubles = npt.NDArray[np.float64]
_SIDE, _LEFT, _BOTTOM, _KEY = 250, 56, 40, 17
# Rates of membership below this need more records than a study has.
_LOWEST = 1e-3


@dataclass(frozen=True)
class Line:
    """One attack's curves (seeds, points), as in `lab.run.ranked.Curve`, and the least rate that it can show.

    `number` is the attack's among all of the study on that target: it has one colour in all charts.
    """

    label: str
    tpr: Doubles
    mean_tpr: Doubles
    least: float
    number: int


@style.chart
def roc(fpr: Doubles, lines: Sequence[Line], logarithmic: bool = False) -> Figure:
    """Draw each attack's mean over seeds, with a band from the lowest to the highest seed, and chance.

    With `logarithmic`, both axes are, so that low false-positive rates can be read (Carlini et al. 2022). There a curve
    begins at the least rate that its negatives can show, and is what a threshold attains. On plain axes examples that
    tie are named in random order, so that the area under a curve is its AUC.

    Parameters
    ----------
    fpr : float64 (points,)
        Rising.
    lines : sequence of Line
    logarithmic : bool
    """
    key = _KEY * (len(lines) + 1) + 8
    figure = style.new_figure(_SIDE + _LEFT + 14, _SIDE + _BOTTOM + key)
    axes = style.place(figure, _LEFT, 8, 14, _BOTTOM + key)
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel("true-positive rate")
    ends = (_LOWEST, 1.0) if logarithmic else (0.0, 1.0)
    if logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    ticks = [0.001, 0.01, 0.1, 1] if logarithmic else [0, 0.25, 0.5, 0.75, 1]
    for axis, limits in ((axes.xaxis, axes.set_xlim), (axes.yaxis, axes.set_ylim)):
        limits(*ends)
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
    axes.grid(True)
    (chance,) = axes.plot(ends, ends, color=style.GREY, linewidth=1, dashes=(2, 2))
    handles, labels = [], []
    for line in lines:
        colour = style.SERIES[line.number % len(style.SERIES)]
        shown = fpr >= line.least if logarithmic else np.ones(len(fpr), bool)
        steps = logarithmic or not line.mean_tpr.size
        rates = (line.tpr if steps else line.mean_tpr)[:, shown]
        low, mean, high = (np.maximum(end, ends[0] / 10) for end in (rates.min(0), rates.mean(0), rates.max(0)))
        if len(rates) > 1:
            band: Literal["post"] | None = "post" if steps else None
            axes.fill_between(fpr[shown], low, high, color=colour, alpha=0.18, linewidth=0, step=band)
        drawn = "steps-post" if steps else "default"
        axes.plot(fpr[shown], mean, color=colour, linewidth=1.6, drawstyle=drawn, clip_on=logarithmic)
        handles.append(Line2D([], [], color=colour, linewidth=2))
        labels.append(line.label)
    style.legend(figure, [*handles, chance], [*labels, "guessing"])
    return figure
