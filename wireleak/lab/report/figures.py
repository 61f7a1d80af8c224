"""The figures of a run, drawn from its results for the page and for papers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup
from matplotlib.figure import Figure

from wireleak.common.measures import quantity
from wireleak.common.references import window_of
from wireleak.common.words import counted
from wireleak.lab.report.boards import Board, SeedMean, notes_of, times_planted
from wireleak.lab.report.charts import heat, style, tradeoff
from wireleak.lab.report.charts.exposure import Curve, exposure
from wireleak.lab.report.charts.points import Panel, paired_maps, palette, point_map
from wireleak.lab.report.charts.records import record_sizes, timeline
from wireleak.lab.report.charts.rounds import LEAST, Course, scores_by_round
from wireleak.lab.report.charts.scores import Mark, Scale, scores, scores_key
from wireleak.lab.report.charts.traffic import Bar, traffic
from wireleak.lab.report.defences import NONE, Comparison, Spread
from wireleak.lab.report.features import FeaturePanels
from wireleak.lab.report.formatting import duration, size
from wireleak.lab.report.layer_quantities import GROUPS, LayerQuantity
from wireleak.lab.report.localised import Map, highest
from wireleak.lab.report.training_page import PointMap, Windows
from wireleak.lab.run.results import Wire

_REST, _HIDDEN = "framing and other messages", "unreadable (TLS)"


@dataclass(frozen=True)
class Drawing:
    """A figure and the functions that draw it.

    Parameters
    ----------
    name : str
        Name of its file, without a suffix.
    said : str
        Alternative text for readers who cannot see it.
    draw : callable
        Draws it for a page.
    paper : callable, optional
        Draws it with its key, for use outside the page; the default is `draw`.
    least : float, optional
        Width in px below which it scrolls on a page instead of shrinking.
    """

    name: str
    said: str
    draw: Callable[[], Figure]
    paper: Callable[[], Figure] | None = None
    least: float | None = None

    def inline(self) -> Markup:
        """Return the figure as SVG for a page."""
        return style.inline(self.draw(), self.said, least=self.least)


def score_drawings(board: Board, title: str, every: Sequence[Board]) -> list[Drawing]:
    """Return one figure for each measure of a board; a measure has the same axis in all of them."""
    drawings = []
    for name in board.measures:
        scale = scale_of(every, name)
        marks = [_mark(board, score, scale) for score in _ordered(board, name)]
        others = counted(len(marks) - 1, "baseline")
        partly = "".join(f"; {note}" for note in notes_of(_ordered(board, name)))
        drawings.append(
            Drawing(
                f"scores-{board.variant}-{board.attack}-{board.target}-{name}",
                f"{title}, {board.target} by {board.attack}: {marks[0].said}, and {others}{partly}",
                partial(scores, marks, scale),
                partial(scores, marks, scale, key=True),
            )
        )
    return drawings


def key_drawing() -> Drawing:
    """Return the key to all figures of scores."""
    said = "Key: a dot is the attack, a square a reader of the wire, a ring a baseline without the wire, a bar a bound"
    return Drawing("scores-key", said, scores_key)


def scale_of(boards: Sequence[Board], name: str) -> Scale:
    """Return an axis of a measure that all boards share; it contains all intervals and chance."""
    every = [one for board in boards for one in board.scores if one.measure == name]
    # A bound may lie orders of magnitude away; it is then drawn at the axis's end.
    chosen = [one for one in every if one.role not in ("bound", "quantile")] or every
    ends = [end for one in chosen for end in (one.value, one.low, one.high, one.chance) if end is not None]
    finite = [end for end in ends if math.isfinite(end)]
    low, high = min([*finite, 0.0]), max([*finite, 0.0])
    how = quantity(name)
    if name == "auc":
        low, high = min([*finite, 0.4]), 1.0
    elif how.high == 1.0:
        high = 1.0
    leaks = f"{'higher' if how.higher_leaks else 'lower'} leaks more"
    return Scale(low, high, f"{how.label}{', ' + how.unit if how.unit else ''} ({leaks})", how.percent)


def _ordered(board: Board, name: str) -> list[SeedMean]:
    found = (board.get(name, row) for row in board.names)
    return [score for score in found if score]


def _mark(board: Board, score: SeedMean, scale: Scale) -> Mark:
    label = (score.label if score.name else board.attack) + score.mark
    how = quantity(score.measure)
    said = f"{label}: " if score.name else ""
    said += f"{how.label} {score.written} {score.interval}, axis {scale.low:.3g} to {scale.high:.3g}"
    return Mark(label, score.role, score.value, score.low, score.high, score.chance, said)


def traffic_drawings(wires: Sequence[Wire], names: dict[str, str]) -> list[tuple[str, Drawing]]:
    """Return each variant's title and a drawing of its bytes by kind: tensors, framing, and bytes that TLS hides."""
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
                + ", ".join(f"{bar.kind} {size(bar.bytes)}" for bar in group),
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
    span = f"from {size(min(sizes))} to {size(max(sizes))}"
    lasted = duration(max(b.time for b in wire.bursts) - min(b.time for b in wire.bursts))
    return [
        Drawing(
            f"records-{where}",
            f"{where}: histogram of {len(sizes)} record sizes {span}",
            partial(record_sizes, wire.bursts),
        ),
        Drawing(f"timeline-{where}", f"{where}: bytes over {lasted}, up and down", partial(timeline, wire.bursts)),
    ]


def exposure_drawing(boards: Sequence[Board], names: Mapping[str, str]) -> Drawing | None:
    """Return exposure against insertions, a line for each variant and attack; None if no number was planted."""
    lines: dict[str, list[tuple[int, float, float, float]]] = {}
    tops, chances = [], []
    for board in boards:
        times, score = times_planted(board), board.get("exposure")
        if times is None or score is None:
            continue
        label = f"{names[board.variant]}, by {board.attack}{score.mark}"
        lines.setdefault(label, []).append((times, score.value, score.low, score.high))
        tops += [one.value for one in board.scores if one.measure == "exposure" and one.role == "bound"]
        chances += [] if score.chance is None else [score.chance]
    if not lines or not tops:
        return None
    curves = [Curve(label, tuple(points)) for label, points in lines.items()]
    counts = sorted({point[0] for curve in curves for point in curve.points})
    said = f"exposure in bits, 0 to {max(tops):.1f}, of numbers planted {', '.join(map(str, counts))} times"
    return Drawing("exposure", said, partial(exposure, curves, max(tops), chances[0] if chances else None), least=470)


def defence_drawing(found: Comparison) -> Drawing:
    """Return accuracy against the strongest fresh attacker's score, with a mark for each setting."""

    def interval(spread: Spread) -> tradeoff.Interval:
        return tradeoff.Interval(spread.value, spread.low, spread.high)

    settings = [
        tradeoff.Setting(
            number,
            f"{one.title}{one.mark}",
            "" if one.defence == NONE else one.defence,
            one.strength,
            interval(one.accuracy),
            interval(one.leak),
            one.front,
        )
        for number, one in enumerate(found.points, 1)
    ]
    said = f"accuracy against leakage of {counted(len(settings), 'setting')}"
    said += ", a panel for each defence" if len(settings) > tradeoff.CROWD else ""
    said += "".join(f"; {note}" for note in found.notes)
    leak = f"{found.target}: {found.leak} of the strongest fresh attacker (left is better)"
    draw = partial(tradeoff.tradeoff, settings, leak, found.floor)
    return Drawing(f"defences-{found.target}", said, draw, least=600)


def heat_drawing(one: Map) -> Drawing:
    """Return a heat map of the leakage of a network's layers."""
    shown = [(group, q) for group, quantities in GROUPS for q in quantities if q in one.quantities]
    columns = [_column(one, group, quantity) for group, quantity in shown]
    layers = [heat.HeatRow(layer.title, layer.parameters) for layer in one.layers]
    peaks = ", ".join(f"{one.layers[highest(one.means(q))].title} for {q.heading} {q.unit}" for _, q in shown)
    said = f"heat map of {counted(len(one.layers), 'layer')} of {one.network} on {one.dataset}; strongest: {peaks}"
    return Drawing(
        f"layers-{one.variant}-{one.target}", said, partial(heat.heat_map, layers, columns), least=heat.LEAST
    )


def _column(one: Map, group: str, quantity: LayerQuantity) -> heat.Column:
    means = one.means(quantity)
    said = []
    for layer, value in zip(one.layers, means, strict=True):
        span = layer.figures[quantity.name]
        ends = f", {quantity.write(span.low)} to {quantity.write(span.high)} over seeds" if one.seeds > 1 else ""
        said.append(f"{quantity.heading} {quantity.unit}: {quantity.write(value)}{ends}")
    names = (group, quantity.heading, quantity.unit, quantity.floor)
    return heat.Column(*names, tuple(means), tuple(map(quantity.write, means)), tuple(said))


def rounds_drawing(one: Windows, names: Mapping[str, str]) -> Drawing:
    """Return an attack's score against the rounds, a line for each variant."""
    courses = []
    for variant, found in one.variants.items():
        windows = [window_of(score.name) or (0, 0) for score in found]
        points = [(*window, score.value, score.low, score.high) for window, score in zip(windows, found, strict=True)]
        courses.append(Course(f"{names[variant]}{found[0].mark}", tuple(points)))
    chance = next((score.chance for found in one.variants.values() for score in found), None)
    measure = quantity(one.measure).label
    ends = "; ".join(f"{course.label} {course.points[0][2]:.2f} to {course.points[-1][2]:.2f}" for course in courses)
    said = f"{measure} of {one.target} by {one.attack}, first to last window of rounds: {ends}"
    draw = partial(scores_by_round, courses, measure, chance)
    return Drawing(f"rounds-{one.attack}-{one.target}", said, draw, least=LEAST)


def update_drawing(one: PointMap) -> Drawing:
    """Return a map of updates, coloured by their true labels."""
    colours = palette(one.classes)
    said = f"{counted(len(one.labels), 'update')} of {one.variant}, coloured by {one.target}"
    named = [f"{name} ({count})" for name, count in zip(one.classes, one.counts, strict=True)]
    return Drawing(
        f"updates-{one.variant}-{one.attack}-{one.target}",
        said,
        partial(point_map, one.places, one.labels, colours),
        partial(point_map, one.places, one.labels, colours, named),
    )


def feature_drawing(one: FeaturePanels) -> Drawing:
    """Return a map of features twice: coloured by the property, and by the task."""
    said = "; ".join(f"{side.title}: {side.figures}" for side in one.sides)
    draw = partial(paired_maps, one.places, (_panel(one, 0), _panel(one, 1)))
    return Drawing(
        f"features-{one.variant}",
        f"features of {counted(len(one.places), 'example')} in {one.variant}, {said}",
        draw,
        partial(draw, keys=True),
    )


def _panel(one: FeaturePanels, number: int) -> Panel:
    side = one.sides[number]
    key = [(colour, f"{name} ({count})") for colour, name, count in feature_key(one, number) if count]
    return Panel((side.title, side.figures), side.labels, _side_colours(one, number), key)


def _side_colours(one: FeaturePanels, number: int) -> list[str]:
    # The same colour on both sides would seem to be the same class.
    first = len(one.sides[0].classes) if number else 0
    return palette(one.sides[number].classes, first if first <= len(style.SERIES) // 2 else 0)


def feature_key(one: FeaturePanels, number: int) -> list[tuple[str, str, int]]:
    """Return colour, name and count of each class on one side of a map of features."""
    side = one.sides[number]
    return list(zip(_side_colours(one, number), side.classes, side.counts, strict=True))


def update_key(one: PointMap) -> list[tuple[str, str, int]]:
    """Return colour, name and count of each class of a map of updates."""
    return list(zip(palette(one.classes), one.classes, one.counts, strict=True))
