"""The figures of a run, each drawn from its results: for the page, and for a paper."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup
from matplotlib.figure import Figure

from wireleak.lab.report import vocabulary
from wireleak.lab.report.boards import Board, SeedMean
from wireleak.lab.report.charts import style
from wireleak.lab.report.charts.records import record_sizes, timeline
from wireleak.lab.report.charts.scores import Mark, Scale, scores, scores_key
from wireleak.lab.report.charts.traffic import Bar, traffic
from wireleak.lab.run.results import Wire

_REST, _HIDDEN = "framing and other messages", "unreadable (TLS)"


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn.

    Parameters
    ----------
    name : str
        Of its file, without a suffix.
    said : str
        What it shows, for those who cannot see it.
    draw : callable
        Draws it for a page.
    paper : callable, optional
        Draws it to stand alone, with its key; `draw` where a page needs no other.
    least : float, optional
        Pixels below which it scrolls on a page instead of shrinking.
    """

    name: str
    said: str
    draw: Callable[[], Figure]
    paper: Callable[[], Figure] | None = None
    least: float | None = None

    def inline(self) -> Markup:
        """Return it as SVG for a page."""
        return style.inline(self.draw(), self.said, least=self.least)


def score_drawings(board: Board, title: str, every: Sequence[Board]) -> list[Drawing]:
    """Return one figure for each measure of a board; a measure has the same axis in all of them."""
    drawings = []
    for name in board.measures:
        scale = scale_of(every, name)
        marks = [_mark(board, score, scale) for score in _ordered(board, name)]
        drawings.append(
            Drawing(
                f"scores-{board.variant}-{board.attack}-{board.target}-{name}",
                f"{title}, {board.target} by {board.attack}: {marks[0].said}, and {len(marks) - 1} baselines",
                partial(scores, marks, scale),
                partial(scores, marks, scale, key=True),
            )
        )
    return drawings


def key_drawing() -> Drawing:
    """Return the key to all figures of scores."""
    said = "Key: a dot is the attack, a square a baseline that reads the wire, a ring one that does not, a bar a bound"
    return Drawing("scores-key", said, scores_key)


def scale_of(boards: Sequence[Board], name: str) -> Scale:
    """One axis for a measure over all boards, so that variants compare by eye; it holds every interval and chance."""
    every = [one for board in boards for one in board.scores if one.measure == name]
    # A bound may lie orders of magnitude away: it is drawn at the axis's end then.
    chosen = [one for one in every if one.role not in ("bound", "quantile")] or every
    ends = [end for one in chosen for end in (one.value, one.low, one.high, one.chance) if end is not None]
    finite = [end for end in ends if math.isfinite(end)]
    low, high = min([*finite, 0.0]), max([*finite, 0.0])
    how = vocabulary.measure(name)
    if name == "auc":
        low, high = min([*finite, 0.4]), 1.0
    elif how.high == 1.0:
        high = 1.0
    leaks = f"{'higher' if how.higher_is_leakier else 'lower'} leaks more"
    return Scale(low, high, f"{how.label}{', ' + how.unit if how.unit else ''} ({leaks})", how.percent)


def _ordered(board: Board, name: str) -> list[SeedMean]:
    found = (board.get(name, row) for row in board.names)
    return [score for score in found if score]


def _mark(board: Board, score: SeedMean, scale: Scale) -> Mark:
    label = vocabulary.control(score.name).label if score.name else board.attack
    how = vocabulary.measure(score.measure)
    said = f"{how.label} {score.written} {score.interval}, axis {scale.low:.3g} to {scale.high:.3g}"
    return Mark(label, score.role, score.value, score.low, score.high, score.chance, said)


def traffic_drawings(wires: Sequence[Wire], names: dict[str, str]) -> list[tuple[str, Drawing]]:
    """Return each variant's title and its bytes by kind: decoded tensors, their framing, and what TLS hides."""
    bars: dict[str, list[Bar]] = {}
    for variant in dict.fromkeys(wire.variant for wire in wires):
        tensors, rest, hidden = Counter[str](), 0, 0
        for wire in (wire for wire in wires if wire.variant == variant):
            crossed = wire.bytes_up + wire.bytes_down
            if wire.tls:
                hidden += crossed
                continue
            for kind in wire.kinds:
                tensors[kind.kind] += kind.bytes
            rest += max(crossed - sum(kind.bytes for kind in wire.kinds), 0)
        found = [*tensors.most_common(), (_REST, rest), (_HIDDEN, hidden)]
        if shown := [Bar(kind, amount, kind == _HIDDEN) for kind, amount in found if amount]:
            bars[variant] = shown
    most = max((bar.bytes for group in bars.values() for bar in group), default=0)
    return [
        (
            names.get(variant, variant),
            Drawing(
                f"traffic-{variant}",
                f"Bytes by kind of {names.get(variant, variant)}: "
                + ", ".join(f"{bar.kind} {vocabulary.size(bar.bytes)}" for bar in group),
                partial(traffic, group, most),
            ),
        )
        for variant, group in bars.items()
    ]


def record_drawings(wire: Wire) -> list[Drawing]:
    """Return a TLS link's record sizes and their times; nothing where no record was seen."""
    if not wire.bursts:
        return []
    sizes = [burst.bytes for burst in wire.bursts]
    where = f"{wire.variant}-{wire.link_name}"
    span = f"from {vocabulary.size(min(sizes))} to {vocabulary.size(max(sizes))}"
    lasted = vocabulary.duration(max(b.time for b in wire.bursts) - min(b.time for b in wire.bursts))
    return [
        Drawing(
            f"records-{where}",
            f"{where}: histogram of {len(sizes)} record sizes {span}",
            partial(record_sizes, wire.bursts),
        ),
        Drawing(f"timeline-{where}", f"{where}: bytes over {lasted}, up and down", partial(timeline, wire.bursts)),
    ]
