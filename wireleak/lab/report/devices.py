"""Emulated devices on the page: a drawing of the set-up, a sentence, and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from wireleak.common.words import listed
from wireleak.lab.report.charts.arrangement import Station, arrangement
from wireleak.lab.report.figures import Drawing
from wireleak.lab.run.results import DeviceUse

_LEAST = 640


def set_up_drawing(uses: Sequence[DeviceUse]) -> Drawing | None:
    """Return the drawing of the devices that served, None where all are the host's own."""
    if not uses:
        return None
    shown = {use.name: use for use in uses}.values()
    stations = [
        Station("The host's own device", ("client, encoder in torch",), "relay on loopback", "loopback"),
        *(
            Station(
                use.title,
                (f"{use.cpu}, {use.memory} MiB, Debian arm64", "thin device, encoder in ONNX"),
                "its network card",
                use.link,
                "emulated whole by qemu-system-aarch64",
            )
            for use in shown
        ),
    ]
    titles = listed([f"an emulated {use.title}" for use in shown])
    said = f"Set-up: the host's own device and {titles} send activations to one head; a tap records each link"
    return Drawing("set-up", said, partial(arrangement, stations), least=_LEAST)


def comparison(uses: Sequence[DeviceUse]) -> str:
    """Return sentences on how the emulated devices' traffic compares with the host's."""
    predictions = max(use.prediction_difference for use in uses)
    lines = [f"All devices served the same inputs. Their predictions differ by at most {predictions:.1g}."]
    activations = [use.activation_difference for use in uses if not math.isnan(use.activation_difference)]
    if activations:
        lines.append(f"The activations that they sent differ by at most {max(activations):.1g}.")
    known = [use.decoded_equal for use in uses if use.decoded_equal is not None]
    if known and all(known):
        lines.append("Each capture decodes, bit for bit, to the activations that its device computed.")
    elif known:
        lines.append("A capture does not decode to the activations that its device computed.")
    return " ".join(lines)
