"""Figures as files for a paper: each chart of a run, from its results and nothing else."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.wireleak.lab.report import synthetic
from wireleak.cli import app
from wireleak.lab.report.export import write_figures

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    synthetic.write(folder, (0,))
    return folder


def test_each_chart_is_a_file_named_after_what_it_shows(run: Path, tmp_path: Path) -> None:
    written = {path.name for path in write_figures(run, "svg", tmp_path)}
    assert {path.name for path in tmp_path.iterdir()} == written
    assert sum(name.startswith("scores-") for name in written) == 3 * (4 + 3 * 2)
    assert {"traffic-cut1.svg", "scores-cut1-inversion-input-mse.svg", "records-cut1-tls-serve-victim.svg"} < written
    assert "pictures-cut4-seed0-inversion-mean.png" in written
    for path in tmp_path.glob("*.svg"):
        tree = ElementTree.parse(path).getroot()
        assert tree.tag == f"{SVG}svg" and tree.find(f"{SVG}title") is not None
        # Text stays text, and a figure that stands alone has its key.
        texts = ["".join(one.itertext()) for one in tree.iter(f"{SVG}text")]
        assert texts and ("the attack" in texts) is path.name.startswith("scores-")


def test_the_same_results_give_the_same_bytes(run: Path, tmp_path: Path) -> None:
    name = "scores-cut4-attributes-slant-auc"
    for kind in ("pdf", "png", "svg"):
        first, second = (next(iter(write_figures(run, kind, tmp_path / out, name))).read_bytes() for out in "ab")
        assert first == second
    assert (tmp_path / "a" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert Image.open(tmp_path / "a" / f"{name}.png").size == tuple(3 * side for side in size(tmp_path, name))


def size(folder: Path, name: str) -> tuple[int, int]:
    tree = ElementTree.parse(folder / "a" / f"{name}.svg").getroot()
    return round(float(tree.get("width", ""))), round(float(tree.get("height", "")))


def test_the_command_prints_a_line_a_figure(run: Path, tmp_path: Path) -> None:
    only = ("--only", "traffic-cut1", "--out", str(tmp_path))
    done = CliRunner().invoke(app, ["figures", str(run), "--format", "png", *only])
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [str(tmp_path / "traffic-cut1.png")]


@pytest.mark.usefixtures("no_progress")
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--format", "pgn"), "wireleak: --format: no format called 'pgn'; did you mean 'png'"),
        (("--only", "trafic-cut1"), "wireleak: --only: no figure called 'trafic-cut1'; did you mean 'traffic-cut1'"),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest(run: Path, asked: tuple[str, str], said: str) -> None:
    done = CliRunner().invoke(app, ["figures", str(run), *asked])
    assert done.exit_code == 2 and done.output.startswith(said) and done.output.count("\n") == 1


@pytest.mark.usefixtures("no_progress")
def test_a_folder_without_results_is_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["figures", str(tmp_path)])
    assert done.exit_code == 2 and done.output.count("\n") == 1
