"""Figures of the page on layers as inline SVG: maps coloured by a label, and lines over the layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

TRAINED, UNTRAINED, ALONE, BAND = "#0072B2", "#D55E00", "#595959", "#c4c4c4"
# Okabe and Ito's palette without its yellow, which is lost on white, and five that stay apart from it.
_NOMINAL = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#1a1a1a",
    "#8C510A", "#7A52C7", "#9E9E9E", "#7F9A00", "#A50F3C",
)  # fmt: skip
_ORDERED = ("#0d0887", "#7e03a8", "#cc4778", "#f08c2e", "#e8c520")
_SPAN = re.compile(r"\d+ ?(-|–|to) ?\d+")
_LAYERS_OF_INK = 12
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 360.0, 190.0, 40.0, 8.0, 18.0, 24.0


def palette(classes: Sequence[str]) -> list[str]:
    """A colour for each class; classes that are spans of numbers (ages) go from dark to light in their order."""
    if sum(bool(_SPAN.search(name)) for name in classes) > len(classes) / 2:
        stops = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in _ORDERED])
        at = np.linspace(0, len(stops) - 1, len(classes))
        channels = [np.interp(at, range(len(stops)), stops[:, k]).round().astype(int) for k in range(3)]
        return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in zip(*channels, strict=True)]
    return [_NOMINAL[k % len(_NOMINAL)] for k in range(len(classes))]


def scatter(
    places: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], colours: Sequence[str], said: str
) -> Markup:
    """Points (n, 2) in 0..1, one colour a label.

    A class is one path a layer of ink, and the layers hold the points at random, so that no class covers the others.
    """
    order = np.random.default_rng(0).permutation(len(places))
    size = min(max(640 / np.sqrt(len(places)), 14), 40)
    at = np.round(size + places * (1000 - 2 * size)).astype(int)
    paths = []
    for ink in np.array_split(order, min(_LAYERS_OF_INK, len(order))):
        for label, colour in enumerate(colours):
            points = at[ink[labels[ink] == label]]
            if len(points):
                drawn = "".join(f"M{x} {1000 - y}h0" for x, y in points.tolist())
                paths.append(f'<path d="{drawn}" stroke="{colour}"/>')
    opening = f'<svg class="map" viewBox="0 0 1000 1000" role="img" aria-label="{escape(said)}">'
    style = f'fill="none" stroke-width="{size:.0f}" stroke-linecap="round" stroke-opacity=".8"'
    return Markup(f"{opening}<g {style}>{''.join(paths)}</g></svg>")


@dataclass(frozen=True)
class Line:
    """Values over the layers, NaN where there is none; `low` and `high` draw whiskers."""

    said: str
    colour: str
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """An axis: its ends, and the values at which there is a tick."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def holding(cls, values: Sequence[float], low: float | None = None, high: float | None = None) -> Axis:
        """An axis with round ends that holds all finite values, and `low` and `high` where they are given."""
        finite = [value for value in values if np.isfinite(value)] or [0.0, 1.0]
        bottom = min(finite if low is None else [*finite, low])
        top = max(finite if high is None else [*finite, high])
        rough = max(top - bottom, 1e-9) / 4
        power = 10.0 ** np.floor(np.log10(rough))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
        first, last = np.floor(bottom / step + 1e-6), np.ceil(top / step - 1e-6)
        ticks = tuple(float(np.round(k * step, 10)) for k in np.arange(first, last + 1))
        return cls(ticks[0], ticks[-1], ticks)

    def share(self, value: float) -> float:
        """Where a value lies between the ends, in [0, 1]; one beyond them lies at an end."""
        return (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)


def line_chart(
    columns: Sequence[str],
    wire: int,
    lines: Sequence[Line],
    axis: Axis,
    said: str,
    *,
    band: tuple[Sequence[float], Sequence[float]] | None = None,
    level: float | None = None,
) -> Markup:
    """Lines over the layers.

    Parameters
    ----------
    columns : sequence of str
        Short names of the layers, left to right.
    wire : int
        Which of them crosses the wire.
    lines : sequence of Line
    axis : Axis
    said : str
        What the chart shows, for those who cannot see it.
    band : pair of sequences, optional
        Lower and upper edge of the null.
    level : float, optional
        A value that is the same for all layers, dotted.
    """
    xs = np.linspace(_LEFT + 14, _WIDTH - _RIGHT - 14, len(columns))

    def y(value: float) -> float:
        share = axis.share(value)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)

    half = (xs[1] - xs[0]) * 0.42
    parts = [
        f'<rect x="{xs[wire] - half:.1f}" y="{_TOP - 4}" width="{2 * half:.1f}" '
        f'height="{_HEIGHT - _BOTTOM - _TOP + 4}" fill="#e9f2f9"/>'
        f'<text x="{xs[wire]:.1f}" y="{_TOP - 7}" text-anchor="middle" class="tick">wire</text>'
    ]
    for tick in axis.ticks:
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y(tick) + 4:.1f}" text-anchor="end" class="tick">{_tick(tick)}</text>')
    for x, name in zip(xs, columns, strict=True):
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 7}" text-anchor="middle" class="tick">{escape(name)}</text>')
    if band is not None:
        up = [f"{x:.1f},{y(value):.1f}" for x, value in zip(xs, band[1], strict=True) if np.isfinite(value)]
        down = [f"{x:.1f},{y(value):.1f}" for x, value in zip(xs, band[0], strict=True) if np.isfinite(value)]
        parts.append(f'<polygon points="{" ".join(up + down[::-1])}" fill="{BAND}" stroke="{BAND}" stroke-width="2"/>')
    if level is not None:
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(level):.1f}" y2="{y(level):.1f}" stroke="{ALONE}" '
            'stroke-width="1.6" stroke-dasharray="2 3"/>'
        )
    for line in lines:
        parts.append(_drawn(line, xs, [y(value) if np.isfinite(value) else np.nan for value in line.values]))
        for x, low, high in zip(xs, line.low, line.high, strict=False):
            if np.isfinite(low) and np.isfinite(high):
                parts.append(
                    f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="{line.colour}" '
                    'stroke-width="2.5" stroke-opacity=".45"/>'
                )
    opening = f'<svg class="chart" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(said)}">'
    return Markup(opening + "".join(parts) + "</svg>")


def _drawn(line: Line, xs: npt.NDArray[np.float64], ys: Sequence[float]) -> str:
    there = [(x, y) for x, y in zip(xs, ys, strict=True) if np.isfinite(y)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in there)
    dashes = ' stroke-dasharray="6 4"' if line.dashed else ""
    parts = [f'<polyline points="{points}" fill="none" stroke="{line.colour}" stroke-width="2"{dashes}/>']
    for x, y in there:
        if line.dashed:
            parts.append(f'<rect x="{x - 3.2:.1f}" y="{y - 3.2:.1f}" width="6.4" height="6.4" fill="{line.colour}"/>')
        else:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{line.colour}"/>')
    return "".join(parts)


def _tick(value: float) -> str:
    return f"{value:.10g}".replace("-", "−")
