"""Leakage of each cut of a network against the bytes that it sends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from wireleak.lab.report.charts import style

LEAST = 560
_WIDTH, _HEIGHT, _KEY, _LETTER = 700, 300, 17, 6.4
_LEFT, _RIGHT = 58, 20


@dataclass(frozen=True)
class Cut:
    """A cut: its name, and its bytes per inference as a number and as text."""

    name: str
    bytes: int
    written: str


@dataclass(frozen=True)
class Series:
    """A line: its name and meaning, and the leakage by index of the cut, from 0 (nothing) to 1 (everything)."""

    name: str
    meaning: str
    values: tuple[tuple[int, float], ...]


@style.chart
def leakage(cuts: Sequence[Cut], series: Sequence[Series]) -> Figure:
    """Draw a line for each series against bytes on a logarithmic axis."""
    # Labels of cuts that lie close together go on separate lines.
    groups = _gathered(cuts)
    lines = max(line for *_, line in groups) + 1
    foot = 24 + 28 * lines + _KEY * len(series)
    figure = style.new_figure(_WIDTH, _HEIGHT + foot)
    axes = style.place(figure, _LEFT, 10, _RIGHT, foot)
    axes.set_xscale("log")
    axes.set_xlim(*_limits(cuts))
    axes.set_xticks([], [])
    axes.set_xticks([], minor=True)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("leakage")
    axes.grid(True, axis="y")
    for sent, label, line in groups:
        axes.axvline(sent, color=style.LINE, linewidth=0.8)
        offset = (0, -6 - 28 * line)
        axes.annotate(
            label, (sent, 0), offset, xycoords=axes.get_xaxis_transform(), textcoords="offset points",
            ha="center", va="top", color="#4a4a4a",
        )  # fmt: skip
    handles = []
    for number, one in enumerate(series):
        points = sorted((cuts[place].bytes, value, cuts[place].name) for place, value in one.values)
        said = [f"{name}, {one.name}: {value:.2f}" for _, value, name in points]
        sizes, values = [x for x, *_ in points], [value for _, value, _ in points]
        handles.append(style.curve(axes, number, sizes, values, said, size=8))
    style.legend(figure, handles, [one.meaning for one in series])
    return figure


def _limits(cuts: Sequence[Cut]) -> tuple[float, float]:
    sent = [cut.bytes for cut in cuts]
    spread = (max(sent) / min(sent)) ** 0.08 * 1.25
    return min(sent) / spread, max(sent) * spread


def _gathered(cuts: Sequence[Cut]) -> list[tuple[int, str, int]]:
    """Return bytes, label and line of each label; cuts that send equally many bytes share a label."""
    names: dict[int, list[str]] = {}
    written = {cut.bytes: cut.written for cut in cuts}
    for cut in cuts:
        names.setdefault(cut.bytes, []).append(cut.name)
    low, high = (math.log(end) for end in _limits(cuts))
    ends: list[float] = []
    found = []
    for sent, group in sorted(names.items()):
        label = ", ".join(group)
        half = max(len(label), len(written[sent])) * _LETTER / 2 + 4
        x = (math.log(sent) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)
        line = next((number for number, end in enumerate(ends) if x - half >= end), len(ends))
        ends[line : line + 1] = [x + half]
        found.append((sent, f"{label}\n{written[sent]}", line))
    return found
