"""The chart of an audit: what each cut gives away against what it sends, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from wireleak.lab.audit.rows import CutRow
from wireleak.lab.report.vocabulary import size

# Okabe and Ito's palette, as in the other figures; shapes say the same again.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#595959", "#56B4E9")
_MEANINGS = {
    "input": "input: the prior's error that the best reconstruction removes",
    "words": "words: read off one vector a word",
}
_TOP, _HEIGHT, _LEFT, _WIDTH = 14, 260, 8.0, 86.0


def leakage_chart(rows: Sequence[CutRow]) -> Markup:
    """Leakage from 0 (what was known without the wire) to 1 (everything) against bytes an inference, logarithmic."""
    series: dict[str, list[tuple[CutRow, float]]] = {}
    for row in rows:
        if row.reconstruction:
            series.setdefault("input", []).append((row, row.reconstruction.explained))
        if row.words:
            series.setdefault("words", []).append((row, row.words.gained))
        for leak in row.attributes:
            series.setdefault(leak.name, []).append((row, leak.gained))
    sent = [math.log10(row.cost.bytes) for row in rows]
    low, high = math.floor(min(sent) * 2) / 2, math.ceil(max(sent) * 2) / 2
    high = high if high > low else low + 1

    def x(row: CutRow) -> float:
        return _LEFT + _WIDTH * (math.log10(row.cost.bytes) - low) / (high - low)

    parts = [*_frame(rows, low, high, x)]
    for place, (name, points) in enumerate(series.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        ordered = sorted(points, key=lambda one: one[0].cost.bytes)
        for (one, start), (other, end) in pairwise(ordered):
            parts.append(
                f'<line x1="{x(one):.2f}%" y1="{_y(start):.1f}" x2="{x(other):.2f}%" y2="{_y(end):.1f}" '
                f'stroke="{colour}" stroke-width="1.5"/>'
            )
        for row, value in ordered:
            said = f"<title>{escape(row.title)}, {escape(name)}: {value:.2f}</title>"
            parts.append(_mark(place, x(row), _y(value), colour, said))
        at = _TOP + _HEIGHT + 58 + 18 * place
        parts.append(_mark(place, _LEFT, at - 4, colour, ""))
        what = _MEANINGS.get(name, f"{name}: AUC gained")
        parts.append(f'<text x="{_LEFT + 2:.2f}%" y="{at}" class="small">{escape(what)}</text>')
    height = _TOP + _HEIGHT + 58 + 18 * len(series)
    opening = f'<svg role="img" width="100%" height="{height}" aria-label="leakage against bytes on the wire">'
    # Every part is built above from numbers and escaped text.
    return Markup(opening + "".join(parts) + "</svg>")


def _frame(rows: Sequence[CutRow], low: float, high: float, x: Callable[[CutRow], float]) -> list[str]:
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(tick)
        parts.append(
            f'<line x1="{_LEFT}%" x2="{_LEFT + _WIDTH}%" y1="{y}" y2="{y}" stroke="{"#333" if not tick else "#ddd"}"/>'
        )
        parts.append(f'<text x="{_LEFT - 1}%" y="{y + 4}" text-anchor="end" class="small">{tick:g}</text>')
    bottom = _TOP + _HEIGHT
    labels: dict[float, list[str]] = {}
    for row in rows:
        labels.setdefault(round(x(row), 1), []).append(str(row.cut))
    for at, cuts in labels.items():
        bytes_sent = next(row.cost.bytes for row in rows if round(x(row), 1) == at)
        parts.append(
            f'<line x1="{at}%" x2="{at}%" y1="{_TOP}" y2="{bottom}" stroke="#eee"/>'
            f'<text x="{at}%" y="{bottom + 16}" text-anchor="middle" class="small">cut {", ".join(cuts)}</text>'
            f'<text x="{at}%" y="{bottom + 31}" text-anchor="middle" class="small">{size(bytes_sent)}</text>'
        )
    return parts


def _y(value: float) -> float:
    return _TOP + _HEIGHT * (1 - value)


def _mark(place: int, x: float, y: float, colour: str, said: str) -> str:
    if place % 3 == 0:
        return f'<circle cx="{x:.2f}%" cy="{y:.1f}" r="5" fill="{colour}">{said}</circle>'
    turn = " rotate(45)" if place % 3 == 2 else ""
    # An SVG of its own sets the origin in percent, which a transform cannot.
    square = f'<rect x="-4.5" y="-4.5" width="9" height="9" fill="{colour}" transform="{turn.strip()}"/>'
    return f'<svg x="{x:.2f}%" y="{y:.1f}" overflow="visible">{said}{square}</svg>'
