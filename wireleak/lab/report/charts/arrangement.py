"""The set-up of serving devices: each device, its network card or relay with the tap, and the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from wireleak.lab.report.charts import style

_ROW, _GAP, _TOP, _FOOT = 104, 22, 8, 92
_DEVICE, _TAP, _HEAD = (24, 230), (330, 130), (620, 150)
_SIDE = _TAP[0] + _TAP[1] + 30


@dataclass(frozen=True)
class Station:
    """A device in the drawing.

    Parameters
    ----------
    title : str
    lines : tuple of str
        What runs on it, two lines at most.
    tap : str
        The place where its traffic is recorded.
    link : str
        Its link.
    frame : str
        The machine that it runs in, drawn as a frame around device and tap; empty for none.
    """

    title: str
    lines: tuple[str, ...]
    tap: str
    link: str
    frame: str = ""


@style.chart
def arrangement(stations: Sequence[Station]) -> Figure:
    """Draw the stations below one another, their links to one head, and the captures that the attacks read."""
    height = _TOP + len(stations) * (_ROW + _GAP) + _FOOT
    figure = style.new_figure(style.WIDE, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, style.WIDE)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    tops = [_TOP + number * (_ROW + _GAP) for number in range(len(stations))]
    low = tops[-1] + _ROW
    _box(axes, _HEAD, tops[0], low - tops[0], "Head", ("the service,", "on this machine"), style.GREY)
    _box(axes, _TAP, low + 38, 46, "Attacks", ("read only captures",), style.ORANGE)
    for station, top in zip(stations, tops, strict=True):
        _station(axes, station, top)
    # Captures run down in a line of their own, beside the boxes of the taps.
    side = _SIDE
    for top in tops:
        axes.plot([_TAP[0] + _TAP[1], side], [top + _ROW - 36] * 2, color=style.ORANGE, linewidth=1.4, linestyle=":")
    axes.plot([side, side], [tops[0] + _ROW - 36, low + 61], color=style.ORANGE, linewidth=1.4, linestyle=":")
    _arrow(axes, (side, low + 61), (_TAP[0] + _TAP[1] + 2, low + 61), style.ORANGE)
    axes.text(side + 8, low + 30, "captures (pcap)", color=style.ORANGE, va="center")
    return figure


def _station(axes: Axes, station: Station, top: float) -> None:
    if station.frame:
        frame = FancyBboxPatch(
            (_DEVICE[0] - 14, top - 6),
            _TAP[0] + _TAP[1] - _DEVICE[0] + 28,
            _ROW + 6,
            boxstyle="round,pad=0,rounding_size=8",
            facecolor="none",
            edgecolor=style.GREY,
            linestyle="--",
            linewidth=1,
        )
        axes.add_patch(frame)
        axes.text(_DEVICE[0] - 8, top - 14, station.frame, color=style.GREY, va="center")
    _box(axes, _DEVICE, top + 8, _ROW - 22, station.title, station.lines, style.BLUE)
    _box(axes, _TAP, top + 18, _ROW - 42, "Tap", (station.tap,), style.ORANGE)
    left, middle, right = _DEVICE[0] + _DEVICE[1], (_TAP[0], _TAP[0] + _TAP[1]), _HEAD[0]
    up, down = top + 34, top + 54
    _arrow(axes, (left, up), (middle[0], up), style.INK)
    _arrow(axes, (middle[1], up), (right, up), style.INK)
    _arrow(axes, (right, down), (middle[1], down), style.GREY)
    _arrow(axes, (middle[0], down), (left, down), style.GREY)
    centre = (_SIDE + right) / 2
    axes.text(centre, up - 10, f"activations, {station.link}", ha="center", va="center")
    axes.text(centre, down + 11, "predictions", ha="center", va="center", color=style.GREY)


def _box(
    axes: Axes, across: tuple[float, float], top: float, height: float, title: str, lines: Sequence[str], colour: str
) -> None:
    left, width = across
    axes.add_patch(
        FancyBboxPatch(
            (left, top), width, height, boxstyle="round,pad=0,rounding_size=6", facecolor="white", edgecolor=colour,
            linewidth=1.6,
        )
    )  # fmt: skip
    middle, step = top + height / 2, 16
    first = middle - step * len(lines) / 2
    axes.text(left + width / 2, first, title, ha="center", va="center", fontsize=style.TEXT, fontweight="bold")
    for number, line in enumerate(lines, 1):
        axes.text(left + width / 2, first + number * step, line, ha="center", va="center")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 0,
                                              "shrinkB": 0})  # fmt: skip
