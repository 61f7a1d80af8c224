"""A guess that rests on less than the study promised is marked in every table, chart and file, and no other is."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from rich.console import Console
from typer.testing import CliRunner

from tests.wireleak.lab.audit.test_audit import row as cut_row
from tests.wireleak.lab.report import synthetic
from tests.wireleak.lab.report.test_defences import run as defended
from wireleak.cli import app
from wireleak.common.reads import DEVICE, MARK, Read, incomplete
from wireleak.common.references import CONSTANT
from wireleak.lab.audit.chart import leakage_drawing
from wireleak.lab.audit.defend import _table
from wireleak.lab.audit.report import as_json
from wireleak.lab.audit.report import terminal_table as audit_table
from wireleak.lab.report import comparison, verdicts
from wireleak.lab.report.boards import boards
from wireleak.lab.report.defences import compare_defences
from wireleak.lab.report.export import drawings
from wireleak.lab.report.page import page, terminal_table
from wireleak.lab.run.results import Results, Row, write_results

PARTLY = "read 294 of 500 activations"
NOTE = f"{MARK} {PARTLY} (cut1: input by inversion)"


def rests_on_less(row: Row) -> bool:
    return (row.variant, row.attack) == ("cut1", "inversion") and row.name not in CONSTANT


@pytest.fixture(scope="module")
def results() -> Results:
    made = synthetic.results((0,))
    made.rows = [row for row in made.rows if row.attack == "inversion"]
    for row in made.rows:
        row.incomplete = PARTLY if rests_on_less(row) else ""
    for one in made.grants:
        one.incomplete = PARTLY if one.variant == "cut1" else ""
    return made


@pytest.fixture(scope="module")
def html(results: Results) -> Markup:
    return Markup(page(results, synthetic.pictures(0)))


def printed(table: Any, width: int = 80) -> str:
    console = Console(width=width, record=True, file=None)
    with console.capture() as said:
        console.print(table)
    return said.get()


def cells(html: str, start: str) -> list[str]:
    """Return the rows of the first table after `start`."""
    table = html[html.index(start) :].partition("</table>")[0]
    return table.split("<tr")[1:]


def test_the_counts_are_written_as_people_say_them() -> None:
    assert incomplete([Read("activation", 294, 500)]) == PARTLY
    assert incomplete([Read("activation", 500, 500), Read("update", 31, 30)]) == ""
    both = [Read("round", 0, 1), Read("activation", 9, 20, DEVICE)]
    assert incomplete(both) == "read 0 of 1 round; 9 of 20 activations of the attacker's device"


def test_the_files_of_results_hold_what_was_read(results: Results, tmp_path: Path) -> None:
    write_results(results, tmp_path)
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["incomplete"] for row in rows] == [PARTLY if rests_on_less(row) else "" for row in results.rows]
    stored = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["incomplete"] for row in stored] == [row["incomplete"] for row in rows]


def test_the_terminal_marks_each_figure_and_says_why(results: Results) -> None:
    said = printed(terminal_table(results))
    of_first = [line for line in said.splitlines() if any(name in line for name in ("MSE", "Re-id", "SSIM"))][:3]
    # The attack's figure and the linear decoder's, but not that of the mean image.
    assert [line.count(MARK) for line in of_first] == [2, 2, 2]
    assert said.count(MARK) == 7 and NOTE in " ".join(said.split())


def test_every_table_of_the_page_marks_them(html: str) -> None:
    (panel,) = [part for part in html.split("<h3>") if part.startswith("Cut 1: input by inversion")]
    for row in cells(panel, "<table"):
        if 'class="value"' in row:
            constant = "mean image" in row
            assert row.count(MARK) == (0 if constant else row.count('class="value"')), row
    assert NOTE in panel.replace("&#39;", "'")
    granted = [row for row in cells(html, 'id="granted"') if "Cut 1: inversion" in row]
    assert granted and all(f"{MARK} {PARTLY}" in row and f"{MARK}</td>" in row for row in granted)
    listed = cells(html, "Every number, seed by seed")
    assert sum(f"{MARK} {PARTLY}" in row for row in listed) == sum(map(rests_on_less, synthetic.rows((0,))))
    hero = html[html.index('aria-label="Originals') : html.index('id="findings"')]
    assert f"{MARK} · Re-identified" in hero and NOTE in hero
    (other,) = [part for part in html.split("<h3>") if part.startswith("Cut 4: input by inversion")]
    assert MARK not in other.partition("</table>")[0]


def test_charts_mark_them_for_pages_and_papers(results: Results) -> None:
    said = {one.name: one.said for one in drawings(results)}
    chart = next(one for one in drawings(results) if one.name == "scores-cut1-inversion-input-mse")
    assert NOTE in said[chart.name] and f"inversion{MARK}" in chart.inline()
    assert MARK not in said["scores-cut4-inversion-input-mse"]


def test_a_silent_verdict_is_not_resolved(results: Results) -> None:
    board = next(one for one in boards(results.rows) if (one.variant, one.attack) == ("cut1-tls", "inversion"))
    partly = replace(board, link="plaintext", scores=tuple(replace(one, incomplete=PARTLY) for one in board.scores))
    whole = replace(partly, scores=board.scores)
    assert verdicts.silent(whole, ("reid",)).outcome == "bounded"
    assert verdicts.silent(partly, ("reid",)).outcome == "open"


def test_compare_marks_the_run_that_read_less(results: Results, tmp_path: Path) -> None:
    for name, made in (("a", results), ("b", synthetic.results((0,)))):
        (tmp_path / name).mkdir()
        write_results(made, tmp_path / name)
    done = CliRunner().invoke(app, ["runs", "compare", str(tmp_path / "a"), str(tmp_path / "b")])
    said = done.stdout
    (line,) = [line for line in said.splitlines() if line.lstrip().startswith("cut1: input")]
    assert line.count(MARK) == 1  # only of A
    assert NOTE in " ".join(said.split())
    found = json.loads(
        CliRunner().invoke(app, ["runs", "compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]).stdout
    )
    (one,) = [one for one in found if (one["variant"], one["target"]) == ("cut1", "input")]
    assert one["incomplete"] == {"a": PARTLY, "b": ""}


def test_comparisons_of_defences_mark_the_setting() -> None:
    results = defended()
    for row in results.rows:
        row.incomplete = PARTLY if (row.variant, row.seed) == ("helps", 1) else ""
    (found,) = compare_defences(results)
    (point,) = [one for one in found.points if one.mark]
    assert point.variant == "helps"
    (marked,) = [row for row in str(comparison.table(found)).split("<tr>") if f"]{MARK}" in row]
    assert "helps (front)" in marked
    said = printed(_table(found, 0.02, {}), 120)
    assert f"]{MARK}" in next(line for line in said.splitlines() if "helps" in line)
    assert f"{MARK} helps: {PARTLY}" in said and f"{MARK} helps: {PARTLY}" in str(comparison.table(found))


def test_an_audit_marks_the_cut() -> None:
    whole, partly = cut_row(1, 0.01, 0.95), cut_row(2, 0.05, 0.9)
    read = partly.reconstruction
    assert read is not None
    partly = replace(partly, reconstruction=replace(read, score=replace(read.score, incomplete=PARTLY)))
    said = printed(audit_table([whole, partly], "digit"))
    assert f"Leaks{MARK}" in said and said.count(f"0.0500{MARK}") == 1 and f"0.0100{MARK}" not in said
    assert as_json(partly)["reconstruction"]["incomplete"] == PARTLY
    assert "incomplete" not in as_json(whole)["reconstruction"]
    assert f"cut 2{MARK}" in str(leakage_drawing([whole, partly]).inline())
