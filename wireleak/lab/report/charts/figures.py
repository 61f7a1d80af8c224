"""Figures of the report as inline SVG and PNG, which need no network, no script and no plotting library.

Charts are SVG without a view box: x in percent and y in pixels, so that they stretch to any page while their text
keeps its size, which a picture from a plotting library does not.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from wireleak.lab.report.boards import Board, Score
from wireleak.lab.report.vocabulary import duration, measure, size
from wireleak.lab.run.results import Burst

# Okabe and Ito's palette, told apart by readers with any colour vision; shapes say the same again.
ATTACK, OTHER, PRIOR, DOWN, BOUND = "#0072B2", "#D55E00", "#595959", "#E69F00", "#009E73"
_DOT_HEIGHT = 20
_GAP, _GAP_GREY = 2, 200


@dataclass(frozen=True)
class Scale:
    """A linear axis from `low` to `high`."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """Where `value` stands, in percent of the axis, inside a margin that keeps marks whole."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return 3.0 + 94.0 * min(max(share, 0.0), 1.0)


def scale_of(boards: Sequence[Board], name: str) -> Scale:
    """One axis for a measure over all boards, so that variants compare by eye; it holds every interval and chance."""
    every = [one for board in boards for one in board.scores if one.measure == name]
    # A bound may lie orders of magnitude away: it is drawn at the axis's end then.
    scores = [one for one in every if one.role not in ("bound", "quantile")] or every
    ends = [end for one in scores for end in (one.value, one.low, one.high, one.chance) if end is not None]
    finite = [end for end in ends if math.isfinite(end)]
    low, high = min([*finite, 0.0]), max([*finite, 0.0])
    if name == "auc":
        low, high = min([*finite, 0.4]), 1.0
    elif measure(name).high == 1.0:
        high = 1.0
    return Scale(low, high)


def dot_and_whisker(score: Score, scale: Scale) -> Markup:
    """A score on its axis: dot the attack, square other attackers, ring prior knowledge, bar a bound."""
    middle, x = _DOT_HEIGHT / 2, scale.percent(score.value)
    colour = {"attack": ATTACK, "baseline": PRIOR, "reader": OTHER}.get(score.role, BOUND)
    parts = [f'<line x1="0" x2="100%" y1="{middle}" y2="{middle}" stroke="#ddd"/>']
    if score.chance is not None:
        at = scale.percent(score.chance)
        parts.append(f'<line x1="{at:.2f}%" x2="{at:.2f}%" y1="1" y2="19" stroke="#767676" stroke-dasharray="2 2"/>')
    if not (math.isnan(score.low) or math.isnan(score.high)):
        left, right = scale.percent(score.low), scale.percent(score.high)
        parts.append(
            f'<line x1="{left:.2f}%" x2="{right:.2f}%" y1="{middle}" y2="{middle}" stroke="{colour}" stroke-width="3"/>'
        )
    if math.isfinite(score.value):
        parts.append(_mark(score, x, middle, colour))
    said = f"{measure(score.measure).label} {score.written} {score.interval}, axis {scale.low:.3g} to {scale.high:.3g}"
    return _svg(parts, _DOT_HEIGHT, said)


def _mark(score: Score, x: float, y: float, colour: str) -> str:
    if score.role == "attack":
        return f'<circle cx="{x:.2f}%" cy="{y}" r="5.5" fill="{colour}"/>'
    if score.role == "baseline":
        return f'<circle cx="{x:.2f}%" cy="{y}" r="4" fill="#fff" stroke="{colour}" stroke-width="2"/>'
    if score.role in ("bound", "quantile"):
        return f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="{y - 7}" y2="{y + 7}" stroke="{colour}" stroke-width="4"/>'
    return f'<rect x="{x:.2f}%" y="{y - 4}" width="8" height="8" transform="translate(-4 0)" fill="{colour}"/>'


def bar(value: float, most: float, said: str, opaque: bool = False) -> Markup:
    """A horizontal bar of `value` on an axis from 0 to `most`; hatched where the bytes cannot be read."""
    width = 100 * value / most if most else 0
    fill = "url(#hatch)" if opaque else ATTACK
    part = f'<rect x="0" y="2" width="{max(width, 0.4):.2f}%" height="12" fill="{fill}" stroke="{ATTACK}"/>'
    return _svg([part], 16, said)


def record_sizes(bursts: Sequence[Burst]) -> Markup:
    """Histogram of record sizes (bytes, up and down) on a logarithmic axis: what TLS still shows."""
    sizes = np.array([max(burst.bytes, 1) for burst in bursts])
    up = np.array([burst.up for burst in bursts])
    top = max(math.ceil(math.log10(float(sizes.max())) + 1e-9), 2)
    edges = np.logspace(0, top, 8 * top + 1)
    counts = [np.histogram(sizes[chosen], edges)[0] for chosen in (up, ~up)]
    ticks = [(100 * power / top, size(10**power)) for power in range(top + 1)]
    said = f"histogram of {len(bursts)} record sizes from {size(sizes.min())} to {size(sizes.max())}"
    return _two_sided(counts, ticks, said, "records")


def timeline(bursts: Sequence[Burst], bins: int = 80) -> Markup:
    """Bytes a moment, up and down, from the first byte of a link to the last."""
    times = np.array([burst.time for burst in bursts])
    times = times - times.min()
    weights = np.array([burst.bytes for burst in bursts])
    up = np.array([burst.up for burst in bursts])
    end = float(times.max()) or 1.0
    edges = np.linspace(0, end, bins + 1)
    amounts = [np.histogram(times[chosen], edges, weights=weights[chosen])[0] for chosen in (up, ~up)]
    ticks = [(percent, duration(end * percent / 100)) for percent in (0, 50, 100)]
    return _two_sided(amounts, ticks, f"bytes over {duration(end)}, up and down", "bytes")


def _two_sided(
    amounts: Sequence[npt.NDArray[np.generic]], ticks: Sequence[tuple[float, str]], said: str, unit: str
) -> Markup:
    """Columns for what went up above the axis, for what went down below it, labelled."""
    half, axis = 56, 74
    most = max(float(np.max(side)) for side in amounts) or 1.0
    width = 100 / len(amounts[0])
    parts = [f'<text x="0" y="12" class="small">client to server; tallest column {_count(most, unit)}</text>']
    for side, (values, colour) in enumerate(zip(amounts, (ATTACK, DOWN), strict=True)):
        for place, value in enumerate(map(float, values)):
            if value:
                height = max(half * value / most, 1.0)
                y = axis - height if side == 0 else axis
                parts.append(
                    f'<rect x="{place * width:.2f}%" y="{y:.1f}" width="{width * 0.86:.2f}%" height="{height:.1f}" '
                    f'fill="{colour}"/>'
                )
    parts.append(f'<line x1="0" x2="100%" y1="{axis}" y2="{axis}" stroke="#333"/>')
    parts.append(f'<text x="0" y="{axis + half + 14}" class="small">server to client</text>')
    low = axis + half + 32
    for at, text in ticks:
        anchor = "start" if at < 5 else "end" if at > 95 else "middle"
        parts.append(f'<text x="{at:.2f}%" y="{low}" text-anchor="{anchor}" class="small">{escape(text)}</text>')
    return _svg(parts, low + 6, said)


def _count(number: float, unit: str) -> str:
    return size(number) if unit == "bytes" else f"{number:.0f} {unit}"


def _svg(parts: Sequence[str], height: float, said: str) -> Markup:
    # Every part is built above from numbers and escaped text.
    opening = f'<svg role="img" width="100%" height="{height:g}" aria-label="{escape(said)}">'
    return Markup(opening + "".join(parts) + "</svg>")


def strip(examples: npt.NDArray[np.float32], said: str, ink: bool = False, reach: float = 1.0) -> Markup:
    """A row of examples: pictures (n, 1 or 3, h, w) as one PNG, anything else as one small line chart each.

    Pixels are clipped to [0, 1], signals to [-reach, reach]; NaN is drawn as 0. `ink` draws 1 as black.
    """
    values = np.nan_to_num(np.asarray(examples, np.float32))
    if values.ndim == 4 and values.shape[1] in (1, 3):
        return _picture_strip(values, said, ink)
    return _signal_strip(np.clip(values / np.float32(reach), -1, 1).reshape(len(values), -1, values.shape[-1]), said)


def _picture_strip(values: npt.NDArray[np.float32], said: str, ink: bool) -> Markup:
    from PIL import Image

    pixels = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    pixels = 255 - pixels if ink else pixels
    count, height, width, channels = pixels.shape
    canvas = np.full((height, count * (width + _GAP) - _GAP, channels), _GAP_GREY, np.uint8)
    for place, picture in enumerate(pixels):
        canvas[:, place * (width + _GAP) : place * (width + _GAP) + width] = picture
    buffer = io.BytesIO()
    Image.fromarray(canvas.squeeze(-1) if channels == 1 else canvas).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img class="strip" alt="{}" src="data:image/png;base64,{}" width="{}" height="{}">').format(
        said, data, canvas.shape[1], canvas.shape[0]
    )


def _signal_strip(values: npt.NDArray[np.float32], said: str) -> Markup:
    colours = (ATTACK, OTHER, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
    charts = []
    for example in values:
        lines = []
        for channel, signal in enumerate(example):
            points = " ".join(
                f"{100 * step / max(len(signal) - 1, 1):.1f},{50 - 48 * value:.1f}" for step, value in enumerate(signal)
            )
            colour = colours[channel % len(colours)]
            style = f'fill="none" stroke="{colour}" vector-effect="non-scaling-stroke"'
            lines.append(f'<polyline points="{points}" {style}/>')
        charts.append(f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{"".join(lines)}</svg>')
    return Markup(f'<div class="signals" role="img" aria-label="{escape(said)}">{"".join(charts)}</div>')
