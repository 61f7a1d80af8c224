"""The page itself: self-contained, complete, escaped, quick, and readable in a real browser."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import sys
import time
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests.wireleak.lab.report import synthetic
from wireleak.common.measures.scores.measure import MEASURES
from wireleak.common.references import reference
from wireleak.lab.report import page as report
from wireleak.lab.report.boards import boards
from wireleak.lab.report.charts import style
from wireleak.lab.report.charts.records import record_sizes, timeline
from wireleak.lab.report.charts.strips import strip
from wireleak.lab.run import results as r
from wireleak.lab.run.pictures import Pictures

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Page(HTMLParser):
    """What a browser would fetch or show."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    synthetic.write(folder)
    report.render(folder)
    return folder


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return (run / "report.html").read_text()


def test_nothing_is_fetched_from_anywhere(html: str) -> None:
    page = Page(html)
    assert not page.of("script") and not page.of("link") and not page.of("iframe")
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), f"{name}={value[:60]}"
    assert not re.search(r"url\((?!#)|@import|https?://|src=.?//", html)


def test_every_row_appears_with_its_numbers(html: str, run: Path) -> None:
    rows = r.read_results(run).rows
    cells = [
        tuple(re.findall(r"<td[^>]*>([^<]*)</td>", line)) for line in html.splitlines() if line.startswith("<tr><td>")
    ]
    shown = set(cells)
    for row in rows:
        # The last cell names what an incomplete guess rests on.
        numbers = (f"{row.value:.6g}", f"{row.low:.6g}", f"{row.high:.6g}", str(row.n), "")
        names = (
            row.variant,
            str(row.seed),
            row.link,
            row.vantage,
            row.attack,
            row.target,
            row.measure,
            row.role,
            row.name,
        )
        assert names + numbers in shown
    assert len(rows) == 3 * 140 == len([one for one in cells if len(one) == 14])


def test_every_score_and_every_control_stands_in_a_chart(html: str) -> None:
    marks = re.findall(r"<title>([^<]*, axis [^<]*)</title>", html)
    assert len(marks) == 140
    assert "MSE 0.0036 [0.0033, 0.0039], axis 0 to 0.061" in marks
    # A chart a measure holds the attack and its baselines; its own alternative names variant, target and attack.
    labels = [one["aria-label"] or "" for one in Page(html).of("svg")]
    assert sum("Cut 1, input by inversion: " in label and ", axis " in label for label in labels) == 4


def test_pictures_and_charts_have_alternatives(html: str) -> None:
    page = Page(html)
    assert len(page.of("img")) == 5 + 8 + 8 + 3
    assert all(len(one["alt"] or "") > 15 for one in page.of("img"))
    assert all(one.get("aria-label") or one.get("aria-hidden") == "true" for one in page.of("svg"))
    assert page.of("html")[0]["lang"] == "en" and page.of("title")


def test_svg_is_well_formed(html: str) -> None:
    found = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert sum(one.count("<title>") for one in found) > 100
    for one in found:
        ElementTree.fromstring(one)


def test_ids_of_charts_do_not_collide(html: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)) > 20
    assert {*re.findall(r"url\(#([^)]+)\)", html), *re.findall(r'href="#(c[0-9a-f]{10}-[^"]+)"', html)} <= set(ids)


def test_what_users_must_learn_is_on_the_page(html: str) -> None:
    text = " ".join(" ".join(Page(html).text).split())
    for said in (
        *("SplitHead/Predict", "activation-gradient", "[1 × 16 × 14 × 14]", "plaintext", "unreadable (TLS)"),
        *("surrogate.npz", "2,600", "sha-256", "Cramér's V", "wireleak run digits", "not chosen by result"),
        *("0123456789ab", "seeds 0, 1, 2", "No leak above AUC", "linear decoder (ridge)", "of 1000 records"),
    ):
        assert said in text, said


def test_names_from_a_capture_cannot_become_markup() -> None:
    made = synthetic.results((0,))
    evil = "<script>alert(1)</script>\"'<img src=http://x>"
    made.wires[0].calls[0].method = evil
    made.wires[0].notes = [evil]
    made.wires[0].kinds[0].kind = made.wires[0].endpoints[0] = made.notes[0] = made.description = evil
    made.rows[0].name = made.rows[0].target = made.rows[0].variant = evil
    made.grants[0].note = evil
    x = np.zeros((2, 1, 4, 4), np.float32)
    pictures = [Pictures("cut1", "plaintext", 0, "inversion", x, {evil: x, "control:" + evil: x})]
    pictures.append(Pictures("cut4", "plaintext", 0, "inversion", x[:, 0], {evil: x[:, 0]}))
    page = Page(report.page(made, pictures))
    assert not page.of("script")
    assert all((one["src"] or "").startswith("data:") for one in page.of("img"))


def test_an_empty_run_still_makes_a_page(tmp_path: Path) -> None:
    r.write_results(r.Results(study="empty", created="2026-01-01", command="wireleak run empty"), tmp_path)
    html = report.render(tmp_path).read_text()
    assert "No attack was scored" in html and "This study has no TLS variant" in html
    assert "was not checked" in html


def test_plaintext_links_in_a_tls_variant_are_pointed_out(html: str) -> None:
    assert "Still plaintext" not in html
    made = synthetic.results((0,))
    made.wires[-1].tls = False
    assert "Still plaintext:</b> train-client-0 of Cut 1, TLS" in report.page(made)


def test_a_simulation_is_not_said_to_have_crossed_a_network(html: str) -> None:
    assert "nothing cross" not in html
    made = synthetic.results((0,))
    partly = [wire for wire in made.wires if wire.variant != "cut4"]
    text = report.page(made.model_copy(update={"wires": partly}))
    assert "bytes that crossed the network" in text
    assert "where nothing crosses a network: Cut 4. Their" in text
    text = report.page(made.model_copy(update={"wires": []}))
    assert "nothing crossed a network" in text and "bytes that crossed the network" not in text


def test_a_row_of_few_pictures_is_not_stretched_over_the_page() -> None:
    def width(count: int) -> list[str]:
        return re.findall(r"max-width: (\d+)px", strip(np.zeros((count, 1, 8, 8), np.float32), "digits"))

    assert [width(count) for count in (1, 2, 8)] == [["140"], ["280"], []]


def test_strip_shows_the_pixels() -> None:
    pixels = np.array([[[[0, 1], [0.5, 2]]], [[[1, np.nan], [-1, 0.25]]]], np.float32)
    for ink in (False, True):
        data = re.search(r"base64,([^\"]+)", strip(pixels, "two", ink))
        assert data
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))))
        wanted = np.array([[0, 255, 200, 200, 255, 0], [128, 255, 200, 200, 0, 64]])
        wanted[:, [0, 1, 4, 5]] = 255 - wanted[:, [0, 1, 4, 5]] if ink else wanted[:, [0, 1, 4, 5]]
        np.testing.assert_array_equal(shown, wanted)


def test_colour_pictures_and_signals_are_drawn() -> None:
    rng = np.random.default_rng(0)
    assert strip(rng.random((3, 3, 32, 32), np.float32), "faces").count("<img") == 1
    assert strip(rng.random((3, 6, 128), np.float32), "signals").count("stroke-width: 0.8") == 18


def test_record_sizes_and_times_are_counted() -> None:
    bursts = [r.Burst(time=0.1 * step, bytes=12_000 if step % 2 else 90, up=bool(step % 2)) for step in range(100)]
    sizes = style.inline(record_sizes(bursts), "sizes")
    ElementTree.fromstring(sizes)
    assert "tallest column 50 records" in sizes
    assert sizes.count("<title>50 records</title>") == 2
    assert "tallest column 24.0 kB" in style.inline(timeline(bursts[:4], bins=1), "times")


def test_the_terminal_table_shows_headline_controls_and_outcome(run: Path) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(report.terminal_table(r.read_results(run)))
    text = console.export_text().replace("\u00a0", " ")
    # The strongest control that never saw the victim's bytes, and the linear decoder.
    assert re.search(r"Cut 1: input .*MSE .*0\.0036 \[0\.0033, 0\.0039\] +0\.0458 +0\.0\d+", text)
    assert "SSIM" in text and "Re-identified" in text and "No leak above" in text
    assert re.search(r"Cut 1: digit .*AUC .*0\.986 ", text)


def test_making_the_report_is_quick(run: Path) -> None:
    began = time.process_time()
    report.render(run)
    assert time.process_time() - began < 5


def browse(folder: Path, page: Path, width: int, *flags: str) -> str:
    profile = folder / f"profile-{width}"
    argv = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},3000", *flags, page.as_uri()]
    return subprocess.run(argv, capture_output=True, text=True, timeout=90, check=True).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_renders_and_fits_in_chromium(run: Path, html: str, tmp_path: Path, width: int) -> None:
    shot = tmp_path / "shot.png"
    browse(tmp_path, run / "report.html", width, f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("L"))
    assert pixels.shape[1] == width
    dark = (pixels < 100).mean(axis=1)
    assert (dark > 0).mean() > 0.4  # text or pictures in many lines, down to the bottom
    assert dark[-1000:].any() and pixels.std() > 20
    # A frame is as narrow as asked, which a headless window is not; the copy lets a script measure it.
    copy = tmp_path / "copy.html"
    inner = escape(re.sub(r"<meta http-equiv[^>]*>", "", html), quote=True)
    measure = "d = f.contentDocument; document.title = [d.documentElement.scrollWidth, d.images[0].naturalWidth]"
    copy.write_text(
        f'<title></title><iframe style="border:0" width="{width}" height="900" srcdoc="{inner}" id="f"></iframe>'
        f"<script>f.onload = () => {{ {measure} }}</script>"
    )
    found = re.search(r"<title>(\d+),(\d+)</title>", browse(tmp_path, copy, 1400, "--dump-dom"))
    assert found
    assert (int(found[1]), int(found[2])) == (width, 8 * 28 + 7 * 2)


def test_only_a_page_imports_the_plotting_library() -> None:
    """Neither the lab before its page nor a party pays for it."""
    modules = "wireleak.cli, wireleak.lab.steps.run, wireleak.lab.launch.zygote, adversary.__main__, client.__main__"
    code = f"import sys, {modules}, server.__main__; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


WORST = '''
from dataclasses import dataclass
from wireleak.common.measures import Measure, Score

@dataclass(frozen=True, kw_only=True)
class Worst(Measure):
    """Report the largest squared error."""

    name: str = "worst"
    label: str = "Largest error"
    meaning: str = "largest squared error of a value"
    higher_leaks: bool = False
    places: int = 2
    applies_to: str = "reconstruction"

    def __call__(self, guess, truth, rng):
        return Score("worst", float(((guess - truth) ** 2).max()), 0, 1, len(guess))
'''


def test_a_measure_of_another_package_says_itself_how_it_is_read(installed: Any) -> None:
    installed(MEASURES, WORST, worst="outside:Worst")
    shared = {"study": "s", "variant": "v", "seed": 0, "link": "plaintext", "vantage": "link", "attack": "inversion"}
    rows = [
        r.Row(**shared, target="input", measure=measure, value=value, low=value, high=value, n=9)
        for measure, value in (("worst", 0.4567), ("mse", 0.1))
    ]
    text = " ".join(Page(report.page(r.Results(study="s", created="now", command="run", rows=rows))).text)
    assert "Largest error" in text and "largest squared error of a value" in text
    assert re.search(r"\b0\.46\b", text)
    assert text.index("MSE") < text.index("Largest error")


def test_scores_in_windows_of_rounds_have_a_chart_and_stand_in_no_table() -> None:
    shared = {"study": "s", "link": "plaintext", "vantage": "malicious-participant", "attack": "property", "n": 50}
    rows = [
        r.Row(**shared, variant=variant, seed=seed, target="thickness", measure="auc", value=value + gain * place,
            low=0.4, high=0.9, role=reference(name).role if name else "attack", name=name, chance=0.5)
        for variant, gain in (("alpha-0", 0.0), ("alpha-07", 0.03))
        for seed in (0, 1)
        for place, (name, value) in enumerate({"": 0.612, "rounds 1 to 50": 0.531, "rounds 51 to 100": 0.574}.items())
    ]  # fmt: skip
    drawn = synthetic.results((0, 1)).model_copy(update={"rows": rows, "variants": [], "wires": [], "grants": []})
    found = report.page(drawn)
    # It is the first picture where there are no others.
    assert found.index("alpha-0, rounds 1 to 50") < found.index('id="findings"')
    for said in ("alpha-0, rounds 1 to 50: 0.53", "alpha-07, rounds 51 to 100: 0.63"):
        assert said in found
    assert "first to last window of rounds: alpha-0 0.53 to 0.57; alpha-07 0.56 to 0.63" in found
    assert all(score.role != "window" for board in boards(rows) for score in board.scores)
    both = report.page(drawn, synthetic.pictures(0))
    assert both.index('id="findings"') < both.index("alpha-0, rounds 1 to 50")
    assert "windows of rounds" not in report.page(synthetic.results((0,)))
