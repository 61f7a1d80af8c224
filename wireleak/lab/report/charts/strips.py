"""Rows of inputs or reconstructions: pictures as one PNG, other inputs as small line charts."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.figure import Figure

from wireleak.lab.report.charts import style

_GAP, _GAP_GREY = 2, 200
# Numbers in a picture up to which its file is made as small as possible.
_OPTIMISED = 2**18
_SIDE, _BETWEEN, _HEIGHT = 64, 4, 70
_FEW, _WIDEST = 5, 140


def strip(examples: npt.NDArray[np.float32], said: str, ink: bool = False, reach: float = 1.0) -> Markup:
    """Return a row of examples, (n, 1 or 3, h, w) as pictures, for a page.

    Pixels are clipped to [0, 1], signals to [-reach, reach]; NaN is drawn as 0. `ink` draws 1 as black.
    """
    values = np.nan_to_num(np.asarray(examples, np.float32))
    if is_pictures(values):
        data, (height, width) = picture_strip(values, ink)
        source = base64.b64encode(data).decode()
        # Of few pictures, each would fill half of the page.
        limit = f"max-width: {_WIDEST * len(values)}px" if len(values) < _FEW else ""
        return Markup(
            '<img class="strip" alt="{}" src="data:image/png;base64,{}" width="{}" height="{}" style="{}">'
        ).format(said, source, width, height, limit)
    return style.inline(signal_strip(values, reach), said)


def is_pictures(values: npt.NDArray[np.float32]) -> bool:
    """Whether examples are grey or colour pictures."""
    return values.ndim == 4 and values.shape[1] in (1, 3)


def picture_strip(values: npt.NDArray[np.float32], ink: bool = False) -> tuple[bytes, tuple[int, int]]:
    """Return pictures side by side as a PNG, and its height and width."""
    from PIL import Image

    pixels = np.round(np.clip(np.nan_to_num(values), 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    pixels = 255 - pixels if ink else pixels
    count, height, width, channels = pixels.shape
    canvas = np.full((height, count * (width + _GAP) - _GAP, channels), _GAP_GREY, np.uint8)
    for place, picture in enumerate(pixels):
        canvas[:, place * (width + _GAP) : place * (width + _GAP) + width] = picture
    buffer = io.BytesIO()
    # Optimising a large picture takes ten times as long and saves a few percent.
    picture = Image.fromarray(canvas.squeeze(-1) if channels == 1 else canvas)
    picture.save(buffer, "PNG", optimize=canvas.size < _OPTIMISED)
    return buffer.getvalue(), (canvas.shape[0], canvas.shape[1])


@style.chart
def signal_strip(values: npt.NDArray[np.float32], reach: float = 1.0) -> Figure:
    """Draw a small chart for each signal (n, channels, steps), from -`reach` to `reach`."""
    signals = np.clip(np.nan_to_num(values) / np.float32(reach), -1, 1).reshape(len(values), -1, values.shape[-1])
    width = len(signals) * (_SIDE + _BETWEEN) - _BETWEEN
    figure = style.new_figure(width, _HEIGHT)
    for place, signal in enumerate(signals):
        left = place * (_SIDE + _BETWEEN)
        axes = style.place(figure, left, 0, width - left - _SIDE, 0)
        axes.set_facecolor("#f5f6f8")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_ylim(-1.05, 1.05)
        axes.set_xlim(0, max(signal.shape[-1] - 1, 1))
        for channel, colour in zip(signal, style.colours(len(signal)), strict=True):
            axes.plot(channel, color=colour, linewidth=0.8)
    return figure
