import io

import pytest
from rich.console import Console

from wireleak.lab.report import page as report
from wireleak.lab.report.findings import titles
from wireleak.lab.report.published import published_scores, published_table
from wireleak.lab.run import results as r
from wireleak.lab.run.results import Results
from wireleak.lab.study.tables import Published


@pytest.fixture
def found() -> Results:
    row = {"study": "s", "variant": "deep", "seed": 0, "link": "plaintext", "vantage": "server", "attack": "rmle"}
    figure = {"variant": "deep", "source": "He et al. 2019"}
    return r.Results(
        study="s",
        created="2026-01-01T00:00:00+00:00",
        command="wireleak run s",
        variants=[r.VariantSummary(name="deep", cut=2, link="plaintext")],
        rows=[r.Row(**row, target="input", measure="psnr", value=21.7, low=21.4, high=21.9, n=100)],
        tasks=[
            r.Task(variant="deep", seed=seed, value=value, n=10, rounds=1) for seed, value in enumerate((0.9, 0.92))
        ],
        published=[
            Published(**figure, attack="rmle", measure="psnr", value=15.1),
            Published(**figure, attack="rmle", measure="ssim", value=0.6),
            Published(**figure, measure="accuracy", value=0.98),
        ],
    )


def test_a_published_figure_stands_beside_the_same_figure_of_this_run(found: Results) -> None:
    psnr, ssim, accuracy = published_scores(found, titles(found))
    assert (psnr.ours, psnr.theirs, psnr.source) == ("21.7 [21.4, 21.9]", "15.1 dB", "He et al. 2019")
    assert (ssim.ours, ssim.theirs) == ("–", "0.600")
    assert (accuracy.attack, accuracy.ours.split("\u00a0")[0]) == ("the main task", "91.0")


def test_the_page_and_the_terminal_show_it(found: Results) -> None:
    page = report.page(found)
    assert "Comparison with published scores" in page and "15.1 dB" in page
    text = io.StringIO()
    Console(file=text, width=120).print(published_table(found, titles(found)))
    assert "15.1 dB" in text.getvalue() and "He et al. 2019" in text.getvalue()
    found.published = []
    assert "Comparison with published scores" not in report.page(found)
