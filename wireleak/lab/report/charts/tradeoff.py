"""Settings of defences: task accuracy against the strongest attacker's score, in one chart or a panel per defence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from wireleak.lab.report.charts import style

# More settings than this overlap too much, so each defence gets a panel.
CROWD = 24
_WIDTH, _HEIGHT, _COLUMNS, _PANEL = 720, 430, 3, 196
_ACCURACIES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
# Smallest distance of tick labels that do not overlap, in px.
_APART = 13
_Y = "task accuracy (up is better; errors on a log scale)"


@dataclass(frozen=True)
class Interval:
    """A mean and its interval, NaN without one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Setting:
    """One setting of one defence, numbered as in the table; `family` is empty without a defence.

    `strength` is the swept value, NaN without a sweep; `front` marks settings on the Pareto front.
    """

    number: int
    title: str
    family: str
    strength: float
    accuracy: Interval
    leak: Interval
    front: bool


@style.chart
def tradeoff(settings: Sequence[Setting], leak: str, floor: float) -> Figure:
    """Draw every setting as its number; those on the Pareto front are ringed and joined.

    Parameters
    ----------
    settings : sequence of Setting
    leak : str
        Title of the axis of leakage.
    floor : float
        The score of guessing.
    """
    if len(settings) > CROWD:
        return _panels(settings, leak, floor)
    families = _families(settings)
    shades = {"": style.INK} | dict(zip(families, style.colours(len(families)), strict=True))
    handles = [Line2D([], [], color=shade, marker="o", markersize=9, linestyle="") for shade in shades.values()]
    labels = ["no defence", *families]
    notes, meanings = _notes("ringed and joined: the Pareto front")
    key = 18 * -(-len(labels) // 3) + 18 * len(notes) + 8
    figure = style.new_figure(_WIDTH, _HEIGHT + key)
    axes = style.place(figure, 58, 10, 16, 48 + key)
    _frame(axes, settings, floor, _HEIGHT - 58)
    axes.set_xlabel(leak)
    axes.set_ylabel(_Y)
    front = sorted((one for one in settings if one.front), key=lambda one: one.leak.value)
    axes.plot(*_places(front), color=style.INK, linewidth=1.5, alpha=0.5)
    for one in settings:
        _whiskers(axes, one, shades[one.family])
    # Draw the front last, on top of the others.
    for one in sorted(settings, key=lambda one: one.front):
        _disc(axes, one, shades[one.family], 18)
    style.legend(figure, handles, labels, 3, bbox_to_anchor=(0, 18 * len(notes) / (_HEIGHT + key)))
    style.legend(figure, notes, meanings)
    return figure


def _panels(settings: Sequence[Setting], leak: str, floor: float) -> Figure:
    """Draw a panel for each defence: its settings, joined by rising strength, among all others."""
    families = _families(settings)
    rows = -(-len(families) // _COLUMNS)
    notes, meanings = _notes("grey: the other defences")
    notes[0] = Line2D([], [], color=style.PALE, marker="o", markersize=5, linestyle="")
    foot = 62 + 18 * len(notes)
    figure = style.new_figure(_WIDTH, rows * _PANEL + foot)
    width, gap, left = (_WIDTH - 58 - 14 * (_COLUMNS - 1) - 14) / _COLUMNS, 14, 58
    bare = next(one for one in settings if not one.family)
    for place, family in enumerate(families):
        row, column = divmod(place, _COLUMNS)
        start, above = left + column * (width + gap), row * _PANEL + 24
        below = (rows - row - 1) * _PANEL + foot + 24
        axes = style.place(figure, start, above, _WIDTH - start - width, below)
        _frame(axes, settings, floor, _PANEL - 48, labelled=column == 0, ticks=3)
        axes.set_title(family, loc="left", fontweight="bold", pad=5)
        own = [one for one in settings if one.family == family]
        others = [one for one in settings if one.family not in ("", family)]
        axes.plot(*_places(others), "o", color=style.PALE, markersize=5, clip_on=False)
        swept = sorted((one for one in own if not math.isnan(one.strength)), key=lambda one: one.strength)
        axes.plot(*_places(swept), color=style.ORANGE, linewidth=1.5, alpha=0.6)
        for one in (bare, *own):
            _whiskers(axes, one, style.ORANGE if one.family else style.INK)
        for one in (bare, *own):
            _disc(axes, one, style.ORANGE if one.family else style.INK, 16, ring=False)
    figure.text(
        left / _WIDTH, (foot - 16) / (rows * _PANEL + foot), f"horizontal axis: {leak}", va="top", color=style.GREY
    )
    figure.text(left / _WIDTH, (foot - 32) / (rows * _PANEL + foot), f"vertical axis: {_Y}", va="top", color=style.GREY)
    style.legend(figure, notes, meanings)
    return figure


def _notes(first: str) -> tuple[list[Line2D], list[str]]:
    ring = Line2D([], [], color=style.INK, marker="o", markersize=9, markerfacecolor="white", linewidth=1.5)
    dashed = Line2D([], [], color=style.GREY, linewidth=1.5, dashes=(3, 3))
    whisker = Line2D([], [], color=style.GREY, linewidth=2, alpha=0.45)
    return [ring, dashed, whisker], [first, "guessing without the wire", "95 % over seeds, cut at the frame"]


def _families(settings: Sequence[Setting]) -> list[str]:
    return [name for name in dict.fromkeys(one.family for one in settings) if name]


def _frame(
    axes: Axes, settings: Sequence[Setting], floor: float, height: float, *, labelled: bool = True, ticks: int = 5
) -> None:
    """Set axes that contain all means, with errors on a logarithmic scale to separate settings that cost little."""
    low, high, _ = style.round_axis([*(one.leak.value for one in settings), floor])
    pad = 0.04 * (high - low)
    axes.set_xlim(low - pad, high + pad)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    shown = _round_accuracies([one.accuracy.value for one in settings])
    levels = [_utility(one) for one in shown]
    margin = 0.06 * (levels[-1] - levels[0])
    axes.set_ylim(levels[0] - margin, levels[-1] + margin)
    pixels = height / (levels[-1] - levels[0] + 2 * margin)
    labels, above = [""] * len(levels), math.inf
    for number in reversed(range(len(levels))):
        if labelled and (above - levels[number]) * pixels >= _APART:
            labels[number], above = f"{shown[number]:g}", levels[number]
    axes.set_yticks(levels, labels)
    axes.grid(True)
    axes.axvline(floor, color=style.GREY, linewidth=1.5, dashes=(3, 3))


def _places(settings: Sequence[Setting]) -> tuple[list[float], list[float]]:
    return [one.leak.value for one in settings], [_utility(one.accuracy.value) for one in settings]


def _whiskers(axes: Axes, one: Setting, shade: str) -> None:
    (x,), (y,) = _places([one])
    if math.isfinite(one.leak.low):
        axes.plot([one.leak.low, one.leak.high], [y, y], color=shade, linewidth=2, alpha=0.45)
    if math.isfinite(one.accuracy.low):
        ends = [_utility(one.accuracy.low), _utility(one.accuracy.high)]
        axes.plot([x, x], ends, color=shade, linewidth=2, alpha=0.45)


def _disc(axes: Axes, one: Setting, shade: str, size: float, *, ring: bool = True) -> None:
    (x,), (y,) = _places([one])
    if one.front and ring:
        axes.plot([x], [y], "o", markersize=size + 6, color="white", markeredgecolor=style.INK, markeredgewidth=2)
    (disc,) = axes.plot([x], [y], "o", markersize=size, color=shade, markeredgecolor="white", markeredgewidth=1)
    said = f"{one.number} {one.title}: accuracy {one.accuracy.value:.3f}, leak {one.leak.value:.3f}"
    style.describe(disc, said + (", on the front" if one.front else ""))
    axes.text(x, y, str(one.number), ha="center", va="center_baseline", color="white", fontweight="bold", fontsize=11)


def _utility(accuracy: float) -> float:
    return -math.log10(max(1 - accuracy, 1 - _ACCURACIES[-1]))


def _round_accuracies(accuracies: Sequence[float]) -> tuple[float, ...]:
    """Return two or more round accuracies that enclose all; accuracies beyond the last are drawn at it."""
    most = len(_ACCURACIES) - 1
    first = min(sum(one <= min(accuracies) for one in _ACCURACIES), most) - 1
    last = min(sum(one < max(accuracies) for one in _ACCURACIES), most)
    return _ACCURACIES[first : max(last, first + 1) + 1]
