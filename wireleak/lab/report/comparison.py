"""The comparison of defences in words: a table of every setting, and the claims that the figures allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from wireleak.lab.report.defences import NONE, Comparison, Point, Spread

_SLIGHT = 0.02
# Names stay on one line.
_STYLES = (' style="white-space: nowrap"', *[""] * 9)


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


def _named(found: Comparison, points: Sequence[Point]) -> str:
    return "; ".join(f"{found.points.index(point) + 1} {point.title}" for point in points)


def written(spread: Spread) -> str:
    """Mean and interval as people read them."""
    interval = "" if math.isnan(spread.low) else f" [{spread.low:.3f}, {spread.high:.3f}]"
    return f"{spread.value:.3f}{interval}".replace("-", "−")
