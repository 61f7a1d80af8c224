"""The page's part on the shared model's features: both panels, their figures, and runs without them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.wireleak.lab.report import synthetic
from wireleak.lab.report import page as report
from wireleak.lab.report.charts import style
from wireleak.lab.report.export import write_figures
from wireleak.lab.report.figures import feature_drawing, feature_key
from wireleak.lab.report.training_page import training_page
from wireleak.lab.run import results as r
from wireleak.lab.run.ranked import FeatureMap

N = 60
# variant, title, honest, means of probe, silhouette, silhouette by the task
VARIANTS = (
    ("steered", "alpha 0.7", False, (0.9, 0.3, 0.1)),
    ("watched", "alpha 0", True, (0.6, 0.02, 0.2)),
    ("clipped", "alpha 0.7, <clipped>", False, (0.7, 0.1, 0.15)),
)
MEASURES = ("feature-probe", "feature-silhouette", "feature-silhouette-task")


def made(seeds: tuple[int, ...] = (0, 1), **changes: Any) -> r.Results:
    rng = np.random.default_rng(0)
    maps, tasks = [], []
    for name, _, honest, values in VARIANTS:
        for seed in seeds:
            shift = (0.01, -0.01)[seed % 2] if len(seeds) > 1 else 0.0
            tasks += [
                r.Task(variant=name, seed=seed, measure=measure, value=value + shift, n=n, rounds=3)
                for measure, value, n in zip(MEASURES, values, (N // 2, N, N), strict=True)
            ]
        one = {"variant": name, "seed": min(seeds), "attribute": "slant", "task": "digit", "honest": honest}
        places = rng.random((2, N)).round(3).tolist()
        labels = {"values": (np.arange(N) % 2).tolist(), "labels": (np.arange(N) % 9).tolist()}
        classes = {"property_classes": ["left", "right"], "task_classes": list("0123456789")}
        maps.append(FeatureMap(**one, **classes, x=places[0], y=places[1], **labels))
    variants = [
        r.VariantSummary(name=name, title=title, cut=1, link="plaintext", mode="federated", seeds=list(seeds))
        for name, title, *_ in VARIANTS
    ]
    shared = {"study": "made", "created": "2026-01-01T00:00:00", "command": "wireleak run made"}
    return r.Results(**shared, **({"variants": variants, "tasks": tasks, "features": maps} | changes))


def section(html: str) -> str:
    found = re.search(r"<h3>The shared model.*?(?=<h3>|</section>)", html, re.DOTALL)
    assert found is not None
    return found[0]


def test_the_page_holds_two_panels_a_variant_with_legends_and_this_seeds_figures() -> None:
    part = section(report.page(made()))
    assert "by slant and by digit" in part
    assert part.count('<svg class="plot"') == len(VARIANTS)
    captions = re.findall(r"<figcaption>(.*?) <span", part)
    # The honest one comes first: it shows the features as they were before.
    assert captions == ["alpha 0", "alpha 0.7", "alpha 0.7, &lt;clipped&gt;"]
    assert re.findall(r'<span class="note">(before|after)', part) == ["before", "after", "after"]
    sides = re.findall(r"<b>by (\w+)</b><br>(.*?)<br>", part.replace("\u00a0", " "))
    assert sides[:2] == [
        ("slant", "probe AUC 0.610, silhouette 0.030"),
        ("digit", "silhouette 0.210"),
    ]
    assert sides[2] == ("slant", "probe AUC 0.910, silhouette 0.310") and len(sides) == 6
    names = re.findall(r"</i> (\S+) \((\d+)\)", part)[: 2 + 9]
    assert names[:2] == [("left", "30"), ("right", "30")]
    # The tenth digit does not occur.
    assert [name for name, _ in names[2:]] == list("012345678") and sum(int(count) for _, count in names[2:]) == N


def test_the_table_and_the_sentence_hold_means_over_seeds() -> None:
    part = section(report.page(made()))
    rows = re.findall(r"<tr><th>(.*?)</th>(.*?)</tr>", part, re.DOTALL)[1:]
    cells = [re.findall(r'class="value">(.*?)<', row) for _, row in rows]
    assert rows[0][0] == "alpha 0"
    assert cells[:2] == [["0.600", "0.020", "0.200"], ["0.900", "0.300", "0.100"]]
    # Student's t over two seeds 0.02 apart: 0.01 x 12.7.
    assert "[0.473, 0.727]" in rows[0][1] and "brackets are 95 % intervals" in part
    assert (
        "reads slant from the shared model&#39;s features with AUC 0.600 (alpha 0) where the malicious participant "
        "only observes, and with 0.700 (alpha 0.7, &lt;clipped&gt;) to 0.900 (alpha 0.7) where it steers the model."
        in part
    )
    assert "brackets" not in section(report.page(made((0,))))


def test_points_have_the_colour_of_their_label_on_each_side() -> None:
    (page,) = training_page(made()).features
    one = page.panels[0]
    panels: Any = feature_drawing(one).draw().axes
    assert len(panels) == 2
    drawn = []
    for number, axes in enumerate(panels):
        names = {colour: place for place, (colour, _, _) in enumerate(feature_key(one, number))}
        found: dict[tuple[float, float], int] = {}
        for line in axes.get_lines():
            x, y = line.get_xdata()[::3], line.get_ydata()[::3]
            found |= {
                (round(float(a), 3), round(float(b), 3)): names[line.get_color()] for a, b in zip(x, y, strict=True)
            }
        drawn.append(found)
    places = [tuple(place) for place in one.places.round(3).tolist()]
    for found, side in zip(drawn, one.sides, strict=True):
        assert [found[place] for place in places] == side.labels.tolist()
    colours = [{colour for colour, _, _ in feature_key(one, number)} for number in (0, 1)]
    assert not colours[0] & colours[1] and len(colours[1]) == 10


def test_figures_are_files_with_both_keys(tmp_path: Path) -> None:
    r.write_results(made(), tmp_path)
    written = [path for path in write_figures(tmp_path, "svg", tmp_path / "out") if path.name.startswith("features-")]
    assert {path.name for path in written} == {f"features-{name}.svg" for name, *_ in VARIANTS}
    tree = ElementTree.parse(tmp_path / "out" / "features-steered.svg").getroot()
    texts = ["".join(one.itertext()).strip() for one in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"by slant", "by digit", "left (30)", "0 (7)", "8 (6)"} <= set(texts) and "9 (0)" not in texts


def test_results_without_the_field_still_make_a_page(tmp_path: Path) -> None:
    synthetic.write(tmp_path, (0,))
    path = tmp_path / "results.json"
    content = json.loads(path.read_text())
    del content["features"]
    path.write_text(json.dumps(content))
    assert r.read_results(tmp_path).features == []
    html = report.render(tmp_path).read_text()
    assert "shared model's features" not in html and not training_page(r.read_results(tmp_path)).features


@pytest.mark.parametrize("lost", ["map", "probe"])
def test_a_missing_map_or_probe_leaves_the_rest(lost: str) -> None:
    whole = made((0,))
    if lost == "map":
        features = [one.model_copy(update={"x": [], "y": [], "values": [], "labels": []}) for one in whole.features]
        part = section(report.page(made((0,), features=features)))
        assert "<svg" not in part and "0.900" in part
        return
    part = section(report.page(made((0,), tasks=[one for one in whole.tasks if one.measure != "feature-probe"])))
    assert "No probe for slant could be fitted" in part and part.count("–</td>") == 3
    assert "<br>silhouette\u00a00.300<br>" in part


def test_more_classes_than_colours_are_drawn() -> None:
    whole = made((0,))
    many = [f"letter {number}" for number in range(2 * len(style.SERIES))]
    features = [one.model_copy(update={"task_classes": many}) for one in whole.features]
    (page,) = training_page(made((0,), features=features)).features
    assert len(feature_key(page.panels[0], 1)) == len(many)
    feature_drawing(page.panels[0]).inline()
