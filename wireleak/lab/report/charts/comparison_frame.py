"""Where a setting of a defence is drawn: accuracy upward, on a logarithmic scale of errors, over what leaks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wireleak.lab.report.charts.layer_figures import Axis
from wireleak.lab.report.defences import Comparison, Point

_ACCURACIES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)


@dataclass(frozen=True)
class Frame:
    """A box of the drawing, in px, and the axes that fill it; `accuracies` are those with a tick."""

    left: float
    top: float
    width: float
    height: float
    across: Axis
    upward: Axis
    accuracies: tuple[float, ...]

    @classmethod
    def holding(cls, found: Comparison, left: float, top: float, width: float, height: float) -> Frame:
        """Axes that hold all means of a comparison; intervals that go beyond are cut at the frame.

        Errors are on a logarithmic scale, on which settings that cost nearly nothing lie apart.
        """
        across = Axis.holding([*(point.leak.value for point in found.points), found.floor])
        shown = _round_accuracies([point.accuracy.value for point in found.points])
        upward = Axis(_utility(shown[0]), _utility(shown[-1]), tuple(map(_utility, shown)))
        return cls(left, top, width, height, across, upward, shown)

    @property
    def right(self) -> float:
        """Of the box."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Of the box."""
        return self.top + self.height

    def x(self, leak: float) -> float:
        """Where a leak is."""
        return self.left + self.across.share(leak) * self.width

    def y(self, accuracy: float) -> float:
        """Where an accuracy is."""
        return self.bottom - self.upward.share(_utility(accuracy)) * self.height

    def at(self, point: Point) -> tuple[float, float]:
        """Where a setting's means are."""
        return self.x(point.leak.value), self.y(point.accuracy.value)

    def floor(self, leak: float) -> str:
        """The dashed line of an attacker that sees nothing."""
        return (
            f'<line x1="{self.x(leak):.1f}" x2="{self.x(leak):.1f}" y1="{self.top}" y2="{self.bottom}" '
            'stroke="#595959" stroke-dasharray="3 4" stroke-width="1.5"/>'
        )

    def whiskers(self, point: Point, shade: str) -> str:
        """A setting's intervals."""
        style = f'stroke="{shade}" stroke-opacity=".45" stroke-width="2"'
        at, level = self.at(point)
        parts = []
        if math.isfinite(point.leak.low):
            ends = f'x1="{self.x(point.leak.low):.1f}" x2="{self.x(point.leak.high):.1f}"'
            parts.append(f'<line {ends} y1="{level:.1f}" y2="{level:.1f}" {style}/>')
        if math.isfinite(point.accuracy.low):
            ends = f'y1="{self.y(point.accuracy.low):.1f}" y2="{self.y(point.accuracy.high):.1f}"'
            parts.append(f'<line {ends} x1="{at:.1f}" x2="{at:.1f}" {style}/>')
        return "".join(parts)

    def line(self, points: Sequence[Point], style: str) -> str:
        """A line through settings."""
        steps = " ".join("{:.1f},{:.1f}".format(*self.at(point)) for point in points)
        return f'<polyline points="{steps}" fill="none" {style}/>'

    def dot(self, point: Point, number: int, shade: str, radius: float = 9) -> str:
        """A setting as its number in a disc, ringed where it is on the front."""
        x, y = self.at(point)
        at = f'cx="{x:.1f}" cy="{y:.1f}"'
        ring = f'<circle {at} r="{radius + 3:g}" fill="#fff" stroke="#1a1a1a" stroke-width="2"/>' if point.front else ""
        return (
            f'{ring}<circle {at} r="{radius:g}" fill="{shade}" stroke="#fff"/>'
            f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" '
            f'style="font-size: 11px; font-weight: 700" fill="#fff">{number}</text>'
        )


def _utility(accuracy: float) -> float:
    return -math.log10(max(1 - accuracy, 1 - _ACCURACIES[-1]))


def _round_accuracies(accuracies: Sequence[float]) -> tuple[float, ...]:
    """Two or more round ones, from below the least to above the greatest; what is beyond the last is drawn there."""
    most = len(_ACCURACIES) - 1
    first = min(sum(one <= min(accuracies) for one in _ACCURACIES), most) - 1
    last = min(sum(one < max(accuracies) for one in _ACCURACIES), most)
    return _ACCURACIES[first : max(last, first + 1) + 1]
