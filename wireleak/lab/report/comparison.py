"""The comparison of defences: a table of every setting, and sentences on two common claims."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from wireleak.common.words import counted, decimal
from wireleak.lab.report.defences import NONE, Comparison, Point, Spread
from wireleak.lab.report.verdicts import TAGS

_SLIGHT = 0.02
# Keep names on one line.
_STYLES = (' style="white-space: nowrap"', *[""] * 9)


def table(found: Comparison) -> Markup:
    """Return an HTML table with one row for each setting."""
    heads = ("", "Setting", "Task accuracy", "Lost", found.leak, "Reduction", "Strongest attacker", "Its own adversary",
             "Device CPU, s per round", "Bytes per inference", "Guaranteed for every attacker")  # fmt: skip
    rows = []
    for number, one in enumerate(found.points, 1):
        cells = (
            escape(one.title) + (" (front)" if one.front else ""),
            written(one.accuracy),
            "" if one.defence == NONE else written(one.lost),
            written(one.leak) + one.mark,
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
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in found.notes)
    return Markup(
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{notes}'
    )


def claims(found: Comparison) -> list[str]:
    """Return sentences that test two claims: accuracy falls only slightly, and a defence removes all leakage."""
    defended = [point for point in found.points if point.defence != NONE]
    helped = [point for point in defended if point.helps]
    base = found.baseline
    lines = [
        f"Without a defence the strongest of {len(found.attackers)} fresh attackers reaches {found.leak} "
        f"{written(base.leak)}{base.mark} on {found.target}, at task accuracy {written(base.accuracy)}. For each "
        "setting and seed, the strongest attacker is chosen by its loss on its own held-out examples."
    ]
    if found.seeds < 2:
        return [
            *lines,
            "One seed gives no interval, so this run does not show which defences help. Use at least three seeds.",
        ]
    slight = [point for point in helped if point.lost.value <= _SLIGHT]
    lost = [point.lost.value * 100 for point in helped]
    spread = (
        f"; they cost {decimal(min(lost), '.1f')} to {decimal(max(lost), '.1f')} points of accuracy" if lost else ""
    )
    of = counted(len(defended), "setting")
    lowers, lower = f"of {of} lowers", f"of {of} lower"
    lines.append(
        f"Is the loss of accuracy small? {counted(len(helped), lowers, lower)} the leak by more than "
        f"the spread over seeds and victims (at 5 % for all settings together, by Holm's method){spread}; "
        f"{counted(len(slight), 'of them costs', 'of them cost')} {_SLIGHT * 100:.0f} points or less"
        + (f" ({_named(found, slight)})." if slight else ".")
    )
    told = {outcome: [point for point in defended if found.outcome(point) == outcome] for outcome in TAGS}
    proved = [point for point in defended if point.guarantee]
    lines.append(
        "Does a defence remove all leakage? Of the strongest attacker, against guessing "
        f"({found.floor:g}; margin {found.highest - found.floor:g}): "
        + "; ".join(
            f"{found.written(outcome)}: {counted(len(points), 'setting')}"
            + (f" ({_named(found, points)})" if points and outcome != "leak" else "")
            for outcome, points in told.items()
            if outcome != "part"
        )
        + ". This does not prove that a better attacker would fail. "
        f"{counted(len(proved), 'setting guarantees', 'settings guarantee')} a bound for every attacker"
        + (f" ({_named(found, proved)}); the table states each bound." if proved else ".")
    )
    return lines


def _named(found: Comparison, points: Sequence[Point]) -> str:
    return "; ".join(f"{found.points.index(point) + 1} {point.title}{point.mark}" for point in points)


def written(spread: Spread) -> str:
    """Return a mean and its interval as text."""
    interval = "" if math.isnan(spread.low) else f" [{decimal(spread.low, '.3f')}, {decimal(spread.high, '.3f')}]"
    return decimal(spread.value, ".3f") + interval
