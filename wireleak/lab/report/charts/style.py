"""The shared style of all charts, and their output: inline SVG for a page, and files for a paper.

Sizes are in CSS pixels. Text stays text and is never under 11 px at full size.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from wireleak.common.files import write_atomically

# Okabe and Ito's palette, distinguishable with any colour vision; without its yellow, which is too pale on white.
BLUE, ORANGE, GREEN, PINK, GOLD, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, GREY, PALE, LINE, SHADE = "#1a1a1a", "#595959", "#c4c4c4", "#dddddd", "#e9f2f9"
# Five more for charts with more classes than the palette has colours.
SERIES = (BLUE, ORANGE, GREEN, PINK, GOLD, SKY, INK, "#8C510A", "#7A52C7", "#9E9E9E", "#7F9A00", "#A50F3C")
MARKERS = ("o", "s", "D", "^", "v", "P")
ORDERED = LinearSegmentedColormap.from_list("ordered", ("#0d0887", "#7e03a8", "#cc4778", "#f08c2e", "#e8c520"))
# From zero to maximum, light enough for dark text.
DEPTH = LinearSegmentedColormap.from_list("depth", ("#ffffff", "#2687bd"))

COLUMN, WIDE = 380, 800
Doubles = npt.NDArray[np.float64]
SMALL, TEXT = 11, 12
FORMATS = ("pdf", "png", "svg")
_PNG_DPI = 216
_RC: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.labelcolor": "#4a4a4a",
    "axes.labelsize": SMALL,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": TEXT,
    "axes.unicode_minus": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": SMALL,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "path.simplify": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "wireleak",
    # Names come from captures and users: a dollar sign must not start a formula.
    "text.parse_math": False,
    "xtick.color": GREY,
    "xtick.labelcolor": "#4a4a4a",
    "xtick.labelsize": SMALL,
    "ytick.color": GREY,
    "ytick.labelcolor": "#4a4a4a",
    "ytick.labelsize": SMALL,
}
_SAID = "said:"
_SVG = "http://www.w3.org/2000/svg"
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"font-family: [^;]+; ?")
_P = ParamSpec("_P")


def chart(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Make a function draw in the shared style."""

    @functools.wraps(draw)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with rc_context(_RC):
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` by `height` px, transparent."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    return figure


def place(figure: Figure, left: float, top: float, right: float, bottom: float) -> Axes:
    """Add axes to a figure; all four are margins in px."""
    width, height = (72 * side for side in figure.get_size_inches())
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    axes: Axes = figure.add_axes(box)
    axes.patch.set_visible(False)
    axes.tick_params(length=3, pad=3)
    return axes


def describe(artist: Artist, said: str) -> None:
    """Give a mark a tooltip, which is also its alternative text."""
    artist.set_gid(_SAID + said)


def legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], columns: int = 1, **options: Any) -> None:
    """Add a legend; a label that starts with an underscore is shown too."""
    shown = [f" {label}" if label.startswith("_") else label for label in labels]
    figure.legend(
        handles,
        shown,
        ncols=columns,
        **({"loc": "lower left", "bbox_to_anchor": (0, 0)} | options),
        borderaxespad=0,
        handletextpad=0.5,
        columnspacing=1.4,
    )


def curve(
    axes: Axes,
    number: int,
    x: Sequence[float] | Doubles,
    values: Sequence[float] | Doubles,
    said: Sequence[str],
    ends: tuple[Doubles, Doubles] | None = None,
    size: float = 7,
) -> Line2D:
    """Draw the series of this number as a line with marks, and return its handle for a legend.

    Parameters
    ----------
    axes : Axes
    number : int
        Place among the series; it gives the colour and the mark.
    x, values : sequence of float
        The points, from left to right.
    said : sequence of str
        Tooltip of each mark.
    ends : pair of float64 (n,), optional
        Lower and upper ends of the whiskers.
    size : float
        Of a mark, in px.
    """
    colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
    axes.plot(x, values, color=colour, linewidth=1.5)
    if ends is not None:
        axes.vlines(x, *ends, colors=colour, linewidth=3, alpha=0.5)
    for at, value, words in zip(x, values, said, strict=True):
        (mark,) = axes.plot([at], [value], marker, color=colour, markersize=size, clip_on=False)
        describe(mark, words)
    return Line2D([], [], color=colour, marker=marker, markersize=size)


def colours(count: int) -> list[str]:
    """Return one colour for each of `count` classes."""
    return [SERIES[number % len(SERIES)] for number in range(count)]


def round_axis(
    values: Sequence[float], low: float | None = None, high: float | None = None
) -> tuple[float, float, list[float]]:
    """Return round ends that contain all finite values (and `low` and `high` if given), and ticks between them."""
    held = [value for value in (*values, low, high) if value is not None and math.isfinite(value)] or [0.0, 1.0]
    bottom, top = min(held), max(held)
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(bottom, top if top > bottom else bottom + 1e-6)
    return float(ticks[0]), float(ticks[-1]), [float(tick) for tick in ticks]


def inline(figure: Figure, said: str, *, least: float | None = None) -> Markup:
    """Return a figure as inline SVG for an HTML page.

    Parameters
    ----------
    figure : Figure
        Figure; its ids get a unique prefix, so that many figures share a page.
    said : str
        Alternative text for readers who cannot see the chart.
    least : float, optional
        Width in px below which the chart scrolls instead of shrinking.
    """
    root = _tree(figure)
    width, height = (72 * side for side in figure.get_size_inches())
    root.attrib.clear()
    limits = f"width:100%;max-width:{width:g}px" + (f";min-width:{least:g}px" if least else "")
    root.attrib |= {"class": "plot", "role": "img", "aria-label": said, "viewBox": f"0 0 {width:g} {height:g}"}
    root.attrib |= {"style": limits, "stroke-linejoin": "round"}
    for one in root.iter():
        if style := one.get("style"):
            # Use the page's font; widths were computed with a wide one.
            one.set("style", _FONT.sub("", style))
    body = ElementTree.tostring(root, encoding="unicode")
    prefix = "c" + hashlib.sha256(body.encode()).hexdigest()[:10]
    _prefix_ids(root, prefix)
    # ElementTree escapes all text and attributes.
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def save(figure: Figure, path: Path, said: str = "") -> Path:
    """Write a figure as a file in the format of its suffix (.pdf, .png or .svg).

    Raises
    ------
    ValueError
        The suffix is another one.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise ValueError(f"{path.name}: a chart is written as {', '.join(FORMATS)}, not as {kind or 'nothing'}")
    figure.patch.set_visible(True)
    if kind == "svg":
        return write_atomically(path, _file(figure, said))
    buffer = io.BytesIO()
    with rc_context(_RC), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about letters that the font lacks
        undated: dict[str, None] = {"CreationDate": None} if kind == "pdf" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=_PNG_DPI, metadata=undated)
    return write_atomically(path, buffer.getvalue())


def _file(figure: Figure, said: str) -> bytes:
    root = _tree(figure)
    width, height = (72 * side for side in figure.get_size_inches())
    root.attrib |= {"xmlns": _SVG, "width": f"{width:g}", "height": f"{height:g}", "stroke-linejoin": "round"}
    if said:
        root.attrib |= {"role": "img", "aria-label": said}
        title = ElementTree.Element("title")
        title.text = said
        root.insert(0, title)
    return f"{ElementTree.tostring(root, encoding='unicode')}\n".encode()


def _tree(figure: Figure) -> ElementTree.Element:
    """Return the figure's SVG without namespaces, dates and unused ids; described marks get a title."""
    buffer = io.StringIO()
    with rc_context(_RC), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about letters that the font lacks
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    used = set()
    for one in root.iter():
        one.tag = one.tag.rpartition("}")[2]
        for name, value in list(one.attrib.items()):
            if name.endswith("}href"):
                del one.attrib[name]
                one.set("href", value)
                used.add(value.removeprefix("#"))
            elif name in ("d", "x", "y", "transform", "points"):
                one.set(name, " ".join(_LONG_NUMBER.sub(_short, value).split()))
                if value.startswith("rotate(-0 "):
                    del one.attrib[name]
            used.update(_REFERENCE.findall(value))
    for one in root.iter():
        one.text, one.tail = one.text if (one.text or "").strip() else None, None
        words = one.get("id", "")
        if words.startswith(_SAID):
            title = ElementTree.Element("title")
            title.text = words.removeprefix(_SAID)
            one.insert(0, title)
        if words and words not in used:
            del one.attrib["id"]
    return root


def _prefix_ids(root: ElementTree.Element, prefix: str) -> None:
    for one in root.iter():
        for name, value in list(one.attrib.items()):
            if name == "id":
                one.set(name, f"{prefix}-{value}")
            elif name == "href" and value.startswith("#"):
                one.set(name, f"#{prefix}-{value[1:]}")
            elif "url(#" in value and name != "aria-label":
                one.set(name, _REFERENCE.sub(rf"url(#{prefix}-\1)", value))


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
