"""Emulated devices in the report: the drawing, the sentence and the table."""

from __future__ import annotations

import re

import pytest
from markupsafe import Markup

from wireleak.lab.report.devices import comparison, set_up_drawing
from wireleak.lab.report.page import page
from wireleak.lab.run.results import DeviceUse, Results

USE = DeviceUse(
    variant="split-pi",
    seed=0,
    name="pi",
    title="Raspberry Pi 3",
    cpu="cortex-a53",
    cores=2,
    memory=512,
    link="wifi",
    wire="delay 20ms",
    inputs=300,
    batch=1,
    boot=4.5,
    serve=34.0,
    seconds=44.6,
    batch_ms=16.3,
    resident=92_000_000,
    emulator=508_000_000,
    prediction_difference=3.6e-7,
    activation_difference=2.4e-6,
    decoded_equal=True,
)


def words(html: str) -> str:
    return " ".join(Markup(html).striptags().split())


def test_the_page_shows_the_set_up_and_the_figures_of_each_device() -> None:
    html = page(Results(study="devices", created="2026-01-01T00:00:00", command="wireleak pi", devices=[USE]))
    (section,) = re.findall(r'<section id="devices">.*?</section>', html, re.DOTALL)
    shown = words(section)
    for part in (
        "Raspberry Pi 3",
        "its network card",
        "cortex-a53, 512 MiB",
        "wifi: delay 20ms",
        "16.3 ms",
        "92.0 MB",
        "differ by at most 4e-07",
    ):
        assert part in shown, part


def test_a_run_without_emulated_devices_shows_no_such_section() -> None:
    html = page(Results(study="digits", created="2026-01-01T00:00:00", command="wireleak run digits"))
    assert 'id="devices"' not in html and "#devices" not in html
    assert set_up_drawing([]) is None


def test_the_drawing_has_each_device_once_for_all_seeds() -> None:
    drawing = set_up_drawing([USE, USE.model_copy(update={"seed": 1})])
    assert drawing is not None
    assert words(drawing.inline()).count("Raspberry Pi 3") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "Each capture decodes, bit for bit, to the activations that its device computed."),
        ({"decoded_equal": False}, "A capture does not decode to the activations that its device computed."),
        ({"decoded_equal": None, "activation_difference": float("nan")}, "differ by at most 4e-07."),
    ],
)
def test_the_sentence_says_what_was_compared(change: dict[str, object], said: str) -> None:
    assert comparison([USE.model_copy(update=change)]).endswith(said)
