"""Exposure over how often a number was planted, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from wireleak.common.targets.canary import CHANCE, MOST, Canary
from wireleak.lab.report.boards import Board, SeedMean

# Okabe and Ito's.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_TOP, _HEIGHT, _ROW = 16, 200, 18
_LEFT, _RIGHT = 8.0, 97.0


def times_of(board: Board) -> int | None:
    """How often a board's numbers were planted; None where it is of something else."""
    count = board.target.removeprefix(f"{Canary.name}-")
    return int(count) if count != board.target and count.isdecimal() and board.get("exposure") else None


def exposure_chart(boards: Sequence[Board], titles: Mapping[str, str]) -> Markup | None:
    """One line a variant and attack; None where nothing was planted.

    Times stand on a logarithmic axis. Whiskers are 95 % intervals, the dashed line is what a number has that the model
    never saw, and the top what the likeliest of all has.
    """
    lines: dict[str, dict[int, SeedMean]] = {}
    tops = []
    for board in boards:
        times, score, most = times_of(board), board.get("exposure"), board.get("exposure", MOST)
        if times is None or score is None:
            continue
        lines.setdefault(f"{titles[board.variant]}, by {board.attack}", {})[times] = score
        tops += [most.value] if most else []
    if not lines or not tops:
        return None
    counts, top = sorted({times for line in lines.values() for times in line}), max(tops)
    reach = math.log2(counts[-1] / counts[0]) or 1.0

    def across(times: int, shift: float = 0.0) -> str:
        return f"{_LEFT + (_RIGHT - _LEFT) * (0.02 + 0.94 * math.log2(times / counts[0]) / reach) + shift:.2f}%"

    def down(bits: float) -> str:
        return f"{_TOP + _HEIGHT * (1 - min(max(bits / top, 0.0), 1.0)):.1f}"

    parts = [
        _line(f"{_LEFT}%", f"{_RIGHT}%", down(bits), down(bits), f'stroke="{colour}"{dash}')
        + f'<text x="0" y="{down(bits)}" dy="4" class="small">{bits:.1f}</text>'
        for bits, colour, dash in (
            (0.0, "#333", ""),
            (CHANCE, "#767676", ' stroke-dasharray="2 2"'),
            (top, "#009E73", ""),
        )
    ]
    parts += [
        f'<text x="{across(times)}" y="{_TOP + _HEIGHT + 16}" text-anchor="middle" class="small">{times}</text>'
        for times in counts
    ]
    for place, (name, line) in enumerate(lines.items()):
        colour, shift = _COLOURS[place % len(_COLOURS)], 0.5 * (place - (len(lines) - 1) / 2)
        drawn = [(across(times, shift), score) for times, score in sorted(line.items())]
        for (x, score), (onward, following) in pairwise(drawn):
            parts.append(_line(x, onward, down(score.value), down(following.value), f'stroke="{colour}"'))
        for x, score in drawn:
            if not math.isnan(score.low):
                parts.append(_line(x, x, down(score.low), down(score.high), f'stroke="{colour}" stroke-width="3"'))
            parts.append(f'<circle cx="{x}" cy="{down(score.value)}" r="4.5" fill="{colour}"/>')
        y = _TOP + _HEIGHT + 24 + _ROW * (place + 1)
        parts.append(f'<circle cx="{_LEFT}%" cy="{y - 4}" r="4.5" fill="{colour}"/>')
        parts.append(f'<text x="{_LEFT + 2}%" y="{y}" class="small">{escape(name)}</text>')
    said = f"exposure in bits, 0 to {top:.1f}, of numbers planted {', '.join(map(str, counts))} times"
    height = _TOP + _HEIGHT + 32 + _ROW * len(lines)
    opening = f'<svg role="img" width="100%" height="{height}" aria-label="{escape(said)}">'
    return Markup(opening + "".join(parts) + "</svg>")


def _line(x1: str, x2: str, y1: str, y2: str, style: str) -> str:
    return f'<line x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}" {style}/>'
