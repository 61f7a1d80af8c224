"""The comparison of defences as the report shows it: a chart of utility against leakage, a table, and the claims."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from wireleak.lab.report.charts.comparison_frame import Frame
from wireleak.lab.report.charts.comparison_panels import WIDTH, height, panels
from wireleak.lab.report.defences import NONE, Comparison, Point, Spread

# After Paul Tol's muted palette, told apart by readers with any colour vision; its light ones are darker here, so that
# white numbers stand out. The numbers say the same again.
_COLOURS = (
    "#332288",
    "#117733",
    "#882255",
    "#CC6677",
    "#44AA99",
    "#AA4499",
    "#999933",
    "#3B8FC4",
    "#B8860B",
    "#661100",
    "#777777",
)
_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 470.0, 64.0, 14.0, 16.0, 52.0
# More settings than this hide one another.
_CROWD = 24
_SLIGHT = 0.02
# Names stay on one line.
_STYLES = (' style="white-space: nowrap"', *[""] * 9)


def colours(found: Comparison) -> dict[str, str]:
    """Each family's colour; no defence is black."""
    families = [name for name in dict.fromkeys(point.defence for point in found.points) if name != NONE]
    return {NONE: "#1a1a1a"} | {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(families)}


def chart(found: Comparison) -> Markup:
    """Accuracy over what the strongest fresh attacker learns, numbered as in the table; the front is a line.

    More settings than can be told apart on one chart get a panel each defence.
    """
    if _crowded(found):
        return panels(found)
    frame = Frame.holding(found, _LEFT, _TOP, WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM)
    parts = []
    for tick in frame.across.ticks:
        place = f"{frame.x(tick):.1f}"
        parts.append(
            f'<line x1="{place}" x2="{place}" y1="{frame.top}" y2="{frame.bottom}" stroke="#e3e3e3"/>'
            f'<text x="{place}" y="{frame.bottom + 18}" text-anchor="middle" class="small">{tick:.10g}</text>'
        )
    for tick in frame.accuracies:
        level = frame.y(tick)
        parts.append(
            f'<line x1="{frame.left}" x2="{frame.right}" y1="{level:.1f}" y2="{level:.1f}" stroke="#e3e3e3"/>'
            f'<text x="{frame.left - 8}" y="{level + 4:.1f}" text-anchor="end" class="small">{tick:.10g}</text>'
        )
    leaked = escape(f"{found.target}: {found.leak} of the strongest fresh attacker (left is better)")
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 8}" class="small">{leaked}</text>')
    parts.append(
        f'<text transform="translate(14 {(frame.top + frame.bottom) / 2}) rotate(-90)" text-anchor="middle" '
        'class="small">task accuracy (up is better; errors on a log scale)</text>'
    )
    parts.append(frame.floor(found.floor))
    front = sorted((point for point in found.points if point.front), key=lambda point: point.leak.value)
    parts.append(frame.line(front, 'stroke="#1a1a1a" stroke-width="1.5" stroke-opacity=".5"'))
    shades = colours(found)
    parts += [frame.whiskers(point, shades[point.defence]) for point in found.points]
    # Those on the front are drawn last, on top.
    for number, point in sorted(enumerate(found.points, 1), key=lambda one: one[1].front):
        parts.append(frame.dot(point, number, shades[point.defence]))
    said = f"accuracy against leakage of {len(found.points)} settings"
    opening = f'<svg class="chart" viewBox="0 0 {WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{said}">'
    return Markup(opening + "".join(parts) + "</svg>")  # built above from numbers and escaped text


def chart_file(found: Comparison) -> str:
    """The chart as a file of its own, with its key below."""
    style = "text { font: 12px system-ui, 'DejaVu Sans', sans-serif; fill: #4a4a4a } text[fill] { fill: #fff }"
    body = chart(found).partition(">")[2].removesuffix("</svg>")
    crowded = _crowded(found)
    bottom = height(found) if crowded else _HEIGHT
    items, at, line = [], _LEFT, bottom + 16
    for name, shade in {} if crowded else colours(found).items():
        shown = "no defence" if name == NONE else name
        if at + 7.5 * len(shown) + 24 > WIDTH:
            at, line = _LEFT, line + 20
        items.append(
            f'<circle cx="{at}" cy="{line - 4}" r="5" fill="{shade}"/><text x="{at + 10}" y="{line}">{shown}</text>'
        )
        at += 7.5 * len(shown) + 30
    whole = bottom if crowded else line + 14
    size = f'width="{WIDTH:g}" height="{whole:g}" viewBox="0 0 {WIDTH:g} {whole:g}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>'
    return f'{opening}<rect width="100%" height="100%" fill="#fff"/>{body}{"".join(items)}</svg>\n'


def key(found: Comparison) -> Markup:
    """Which colour is whose."""
    crowded = _crowded(found)
    items = [
        f'<span><i class="dot" style="background: {shade}"></i> {escape("no defence" if name == NONE else name)}</span>'
        for name, shade in ({NONE: colours(found)[NONE]} if crowded else colours(found)).items()
    ]
    notes = (
        "ringed: the Pareto front; grey: the other defences" if crowded else "ringed and joined: the Pareto front",
        "dashed: an attacker that sees nothing",
        "whiskers: 95 % over seeds, cut at the frame",
    )
    items += [f"<span>{note}</span>" for note in notes]
    return Markup(f'<p class="key">{"".join(items)}</p>')


def table(found: Comparison) -> Markup:
    """Every setting's figures."""
    heads = ("", "Setting", "Task accuracy", "Lost", found.leak, "Taken off", "Strongest attacker", "Its own adversary",
             "Device, CPU s a round", "Bytes an inference", "Holds for every attacker")  # fmt: skip
    rows = []
    for number, one in enumerate(found.points, 1):
        cells = (
            escape(one.title) + (" (front)" if one.front else ""),
            written(one.accuracy),
            "" if one.defence == NONE else written(one.lost),
            written(one.leak),
            "" if one.defence == NONE else written(one.gained),
            escape(one.attacker),
            escape(one.own or "–"),
            "–" if math.isnan(one.device_seconds) else f"{one.device_seconds:.2f}",
            "–" if math.isnan(one.bytes) else f"{one.bytes:,.0f}",
            escape(one.holds),
        )
        rows.append(
            f"<tr><td>{number}</td>"
            + "".join(f"<td{style}>{cell}</td>" for cell, style in zip(cells, _STYLES, strict=True))
            + "</tr>"
        )
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return Markup(
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def claims(found: Comparison) -> list[str]:
    """What the figures say to the claims that accuracy falls slightly and that a defence shows absence of leakage."""
    defended = [point for point in found.points if point.defence != NONE]
    helped = [point for point in defended if point.gained.low > 0]
    base = found.baseline
    lines = [
        f"Without a defence the strongest of {len(found.attackers)} fresh attackers reaches {found.leak} "
        f"{written(base.leak)} on {found.target}, at task accuracy {written(base.accuracy)}. Which attacker is "
        "strongest is told by examples that it held out of its own, for each setting and seed."
    ]
    if found.seeds < 2:
        return [*lines, "One seed has no interval: nothing is said about which defence helps."]
    slight = [point for point in helped if point.lost.value <= _SLIGHT]
    lost = [point.lost.value * 100 for point in helped]
    spread = f"; they cost {min(lost):.1f} to {max(lost):.1f} points of accuracy".replace("-", "−") if lost else ""
    lines.append(
        f"Does accuracy fall slightly? {len(helped)} of {len(defended)} settings lower the leak by more than the "
        f"seeds' spread (each by its own 95 % interval, not corrected for their number){spread}; {len(slight)} of them "
        f"cost {_SLIGHT * 100:.0f} points or less" + (f" ({_named(found, slight)})." if slight else ".")
    )
    silent = [point for point in defended if point.leak.holds(found.floor) or point.leak.value < found.floor]
    proved = [point for point in defended if point.guarantee]
    lines.append(
        f"Does any of them show that nothing is left? In {len(silent)} settings the strongest attacker's interval "
        f"holds {found.floor:g}, what one reaches that sees nothing"
        + (f" ({_named(found, silent)})" if silent else "")
        + "; that these attackers found nothing does not show that nobody can. "
        f"{len(proved)} settings state a bound for every attacker"
        + (f" ({_named(found, proved)}); each says itself how much that is." if proved else ".")
    )
    return lines


def _crowded(found: Comparison) -> bool:
    return len(found.points) > _CROWD


def _named(found: Comparison, points: Sequence[Point]) -> str:
    return "; ".join(f"{found.points.index(point) + 1} {point.title}" for point in points)


def written(spread: Spread) -> str:
    """Mean and interval as people read them."""
    interval = "" if math.isnan(spread.low) else f" [{spread.low:.3f}, {spread.high:.3f}]"
    return f"{spread.value:.3f}{interval}".replace("-", "−")
