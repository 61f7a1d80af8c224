"""Many settings of many defences: a panel each defence, in which its sweep stands out among all others."""

from __future__ import annotations

import math
from dataclasses import replace

from markupsafe import Markup, escape

from wireleak.lab.report.charts.comparison_frame import Frame
from wireleak.lab.report.defences import NONE, Comparison, Point

COLUMNS = 3
WIDTH = 860.0
_LEFT, _GAP, _TITLE, _TICKS, _FOOT = 52.0, 14.0, 22.0, 20.0, 40.0
_HEIGHT, _LINE = 150.0, 13.0
_SHADE, _OTHERS = "#882255", "#c4c4c4"


def height(found: Comparison) -> float:
    """Of the whole drawing, in px."""
    return -(-len(_families(found)) // COLUMNS) * (_TITLE + _HEIGHT + _TICKS) + _FOOT


def panels(found: Comparison) -> Markup:
    """Accuracy over what the strongest fresh attacker learns; a sweep's settings are joined by rising strength."""
    width = (WIDTH - _LEFT - COLUMNS * _GAP) / COLUMNS
    first = Frame.holding(found, _LEFT, _TITLE, width, _HEIGHT)
    parts = []
    for place, family in enumerate(_families(found)):
        row, column = divmod(place, COLUMNS)
        left, top = _LEFT + column * (width + _GAP), row * (_TITLE + _HEIGHT + _TICKS) + _TITLE
        parts.append(_panel(found, family, replace(first, left=left, top=top), labelled=column == 0))
    foot = (
        f"across: {found.leak} of the strongest fresh attacker of {found.target} (left is better)",
        "upward: task accuracy, errors on a log scale (up is better)",
    )
    parts += [
        f'<text x="{_LEFT}" y="{height(found) - _FOOT + 16 * line:g}" class="small">{escape(said)}</text>'
        for line, said in enumerate(foot, 1)
    ]
    label = f"accuracy against leakage of {len(found.points)} settings, a panel each defence"
    opening = f'<svg class="chart" viewBox="0 0 {WIDTH:g} {height(found):g}" role="img" aria-label="{label}">'
    return Markup(opening + "".join(parts) + "</svg>")  # built above from numbers and escaped text


def _families(found: Comparison) -> list[str]:
    return [name for name in dict.fromkeys(point.defence for point in found.points) if name != NONE]


def _panel(found: Comparison, family: str, frame: Frame, *, labelled: bool) -> str:
    own = [(number, point) for number, point in enumerate(found.points, 1) if point.defence == family]
    parts = [
        f'<text x="{frame.left}" y="{frame.top - 7}" style="font-size: 13px; font-weight: 600">{escape(family)}</text>',
        f'<rect x="{frame.left}" y="{frame.top}" width="{frame.width:.1f}" height="{frame.height}" fill="none" '
        'stroke="#d0d0d0"/>',
        _ticks(frame, labelled=labelled),
        frame.floor(found.floor),
        *(_other(frame, point) for point in found.points if point.defence not in (NONE, family)),
        frame.whiskers(found.baseline, "#1a1a1a"),
        *(frame.whiskers(point, _SHADE) for _, point in own),
        frame.line(_swept(own), f'stroke="{_SHADE}" stroke-width="1.5" stroke-opacity=".6"'),
        frame.dot(found.baseline, found.points.index(found.baseline) + 1, "#1a1a1a", 8),
        *(frame.dot(point, number, _SHADE, 8) for number, point in own),
    ]
    return "".join(parts)


def _swept(own: list[tuple[int, Point]]) -> list[Point]:
    return sorted((one for _, one in own if not math.isnan(one.strength)), key=lambda one: one.strength)


def _other(frame: Frame, point: Point) -> str:
    x, y = frame.at(point)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{_OTHERS}"/>'


def _ticks(frame: Frame, *, labelled: bool) -> str:
    parts = []
    ticks = frame.across.ticks
    for tick in ticks:
        x = frame.x(tick)
        # The outer ones stay inside their panel, or they would run into the next one's.
        anchor = {ticks[0]: "start", ticks[-1]: "end"}.get(tick, "middle")
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{frame.bottom}" stroke="#ededed"/>'
            f'<text x="{x:.1f}" y="{frame.bottom + 14}" text-anchor="{anchor}" class="small">{tick:.10g}</text>'
        )
    above = -math.inf
    for tick in reversed(frame.accuracies):
        y = frame.y(tick)
        parts.append(f'<line x1="{frame.left}" x2="{frame.right:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ededed"/>')
        if labelled and y - above >= _LINE:
            above = y
            said = f'<text x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end" class="small">{tick:.10g}</text>'
            parts.append(said)
    return "".join(parts)
