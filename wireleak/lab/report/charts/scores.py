"""Scores of one measure: the attack and its baselines as dots with whiskers on one axis."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from wireleak.common.references import Role
from wireleak.common.words import decimal
from wireleak.lab.report.charts import style

# Colour, marker, size and fill; shapes repeat the meaning of colours for readers who cannot see them.
_LOOKS: dict[Role, tuple[str, str, float, bool]] = {
    "attack": (style.BLUE, "o", 9, True),
    "reader": (style.ORANGE, "s", 7, True),
    "baseline": (style.GREY, "o", 7, False),
    "bound": (style.GREEN, "|", 12, True),
    "quantile": (style.PINK, "|", 12, True),
}
_MEANINGS: dict[Role, str] = {
    "attack": "the attack",
    "reader": "baseline that also reads the wire",
    "baseline": "baseline that sees none of the victim's traffic",
    "bound": "theoretical bound",
    "quantile": "quantile of the attack's scores",
}
_BARS = ("bound", "quantile")
_CHANCE = "#767676"
_LABELS, _ROW, _LINE, _LABEL_LETTERS = 148, 22, 13, 22


@dataclass(frozen=True)
class Mark:
    """One score: label, role, value, interval (NaN without one), chance, and the score as text."""

    label: str
    role: Role
    value: float
    low: float
    high: float
    chance: float | None
    said: str


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high` with its title."""

    low: float
    high: float
    title: str
    percent: bool = False

    def hold(self, value: float) -> float:
        """Return the value, clipped to the axis."""
        return min(max(value, self.low), self.high)


@style.chart
def scores(marks: Sequence[Mark], scale: Scale, *, key: bool = False) -> Figure:
    """Draw one row for each score, in order; `key` adds the meaning of colours and shapes."""
    labels = ["\n".join(textwrap.wrap(mark.label, _LABEL_LETTERS)[:3]) for mark in marks]
    heights = [max(_ROW, _LINE * (label.count("\n") + 1) + 5) for label in labels]
    body, below = sum(heights), 42
    foot = (8 + 16 * (len(_shown(marks)) + 1)) if key else 0
    figure = style.new_figure(style.COLUMN, 6 + body + below + foot)
    axes = style.place(figure, _LABELS, 6, 12, below + foot)
    margin = 0.03 * (scale.high - scale.low or 1.0)
    axes.set_xlim(scale.low - margin, scale.high + margin)
    axes.set_ylim(body, 0)
    across = axes.get_yaxis_transform()
    middles = [sum(heights[:row]) + height / 2 for row, height in enumerate(heights)]
    rows = list(zip(marks, middles, heights, strict=True))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(scale.title)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %") if scale.percent else FuncFormatter(_tick))
    axes.hlines(middles, scale.low - margin, scale.high + margin, colors=style.LINE, linewidth=0.8)
    known = [(scale.hold(one.chance), y, height / 2 - 2) for one, y, height in rows if one.chance is not None]
    if known:
        at, centre, half = (np.array(column) for column in zip(*known, strict=True))
        axes.vlines(at, centre - half, centre + half, colors=_CHANCE, linewidth=1, linestyles=(0, (2, 2)))
    whiskers = [(one, y) for one, y, _ in rows if not (math.isnan(one.low) or math.isnan(one.high))]
    shades = [_LOOKS[one.role][0] for one, _ in whiskers]
    low, high = ([scale.hold(getattr(one, end)) for one, _ in whiskers] for end in ("low", "high"))
    axes.hlines([y for _, y in whiskers], low, high, colors=shades, linewidth=3, clip_on=False)
    for (mark, y, _), label in zip(rows, labels, strict=True):
        _draw(axes, mark, y, scale)
        weight = "bold" if mark.role == "attack" else "normal"
        # Half the price of a tick.
        axes.text(-0.03, y, label, transform=across, ha="right", va="center", color=style.INK, fontweight=weight)
    if key:
        handles = [*(_handle(role) for role in _shown(marks)), _chance_handle()]
        style.legend(figure, handles, [*(_MEANINGS[role] for role in _shown(marks)), "chance"])
    return figure


@style.chart
def scores_key() -> Figure:
    """Draw the key of all charts of scores: colours, shapes and lines."""
    figure = style.new_figure(style.COLUMN, 16 * (len(_LOOKS) + 2) + 12)
    whisker = Line2D([], [], color=style.BLUE, linewidth=3)
    handles = [*map(_handle, _LOOKS), whisker, _chance_handle()]
    style.legend(figure, handles, [*_MEANINGS.values(), "95 % interval", "chance"])
    return figure


def _draw(axes: Axes, mark: Mark, y: float, scale: Scale) -> None:
    colour, marker, size, filled = _LOOKS[mark.role]
    # NaN has no mark, only its text.
    x = scale.hold(mark.value) if math.isfinite(mark.value) else math.nan
    face = colour if filled else "white"
    (dot,) = axes.plot([x], [y], marker, markersize=size, color=colour, markerfacecolor=face, clip_on=False)
    dot.set_markeredgewidth(4 if mark.role in _BARS else 2 if mark.role == "baseline" else 0)
    style.describe(dot, mark.said)


def _shown(marks: Sequence[Mark]) -> list[Role]:
    return [role for role in _LOOKS if any(mark.role == role for mark in marks)]


def _handle(role: Role) -> Line2D:
    colour, marker, size, filled = _LOOKS[role]
    edge = 4 if role in _BARS else 2 if role == "baseline" else 0
    face = colour if filled else "white"
    return Line2D(
        [], [], color=colour, linestyle="", marker=marker, markersize=size, markerfacecolor=face, markeredgewidth=edge
    )


def _chance_handle() -> Line2D:
    return Line2D([], [], color=_CHANCE, linewidth=1, dashes=(2, 2))


def _tick(value: float, _: int) -> str:
    return decimal(value, ".4g")
