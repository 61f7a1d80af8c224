"""ROC curves of stored guesses, and the examples that an attack names with most confidence."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from sklearn.metrics import auc, roc_auc_score, roc_curve

from wireleak.common.targets.attribute import PrivateAttribute
from wireleak.common.targets.member import Member
from wireleak.lab.report.boards import boards
from wireleak.lab.report.page import page
from wireleak.lab.report.ranked import roc_drawings
from wireleak.lab.run.pictures import read_pictures, write_pictures
from wireleak.lab.run.ranked import Rankings
from wireleak.lab.run.results import Results, Row
from wireleak.lab.steps.ranking import GRID, _curve, _exposed, _Ranking, roc


def ranking(seed: int, score: Any, value: Any, units: Any, target: Any, **other: Any) -> _Ranking:
    variant = SimpleNamespace(seen_as="plaintext")
    cell = SimpleNamespace(seed=seed, variant=variant, study=SimpleNamespace(data=SimpleNamespace(name="digits")))
    job = SimpleNamespace(
        variant="wide", use=SimpleNamespace(shown="probe"), target=target.shown, sought=target, cell=cell
    )
    named = [f"seed {seed}, victim {place}" for place in range(len(score))]
    made = {"names": named, "unit": "example", "inputs": None} | other
    return _Ranking(cast(Any, job), np.array(score, float), np.array(value), np.array(units), **made)


def test_the_curve_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    value = rng.integers(0, 2, 300)
    score = np.array([round(one, 2) for one in rng.random(300) + 0.3 * value])  # with ties
    fpr, tpr, _ = roc_curve(value, score, drop_intermediate=False)
    ours = roc(score, value)
    np.testing.assert_allclose(ours[0], fpr)
    np.testing.assert_allclose(ours[1], tpr)
    curve = _curve(ranking(0, score, value, np.arange(300), PrivateAttribute("slant")))
    at_ten = curve.tpr[int(np.argmin(np.abs(GRID - 0.1)))]
    assert at_ten == np.round(tpr[fpr <= 0.1].max(), 4) and curve.least == 1 / (value == 0).sum()
    # Twelve persons are twelve negatives, whatever the number of their records.
    persons = _curve(ranking(0, score, value, np.arange(300) % 12, PrivateAttribute("slant")))
    assert persons.least == 1 / 12


def test_the_area_under_the_curve_on_plain_axes_is_the_auc_also_with_ties() -> None:
    value = np.repeat([0, 1], 500)
    score = np.where(np.random.default_rng(0).random(1000) < 0.3 + 0.4 * value, 0.9, 0.1)  # two scores only
    curve = _curve(ranking(0, score, value, np.arange(1000), PrivateAttribute("slant")))
    assert abs(auc(curve.fpr, curve.mean_tpr) - roc_auc_score(value, score)) < 2e-3
    assert auc(curve.fpr, curve.tpr) < 0.6  # what a threshold attains is less
    one = ranking(0, np.zeros(4), [0, 1, 0, 1], np.arange(4), PrivateAttribute("slant"))
    np.testing.assert_allclose(_curve(one).mean_tpr, GRID, atol=1e-4)


def test_the_worst_protected_are_those_named_best_over_all_seeds() -> None:
    slant = PrivateAttribute("slant")
    seeds = [
        ranking(0, [0.9, 0.2, 0.6], [1, 0, 0], [7, 8, 9], slant),
        ranking(1, [0.5, 0.99], [1, 1], [7, 5], slant),  # example 7 again, less certain
    ]
    found, pictured = _exposed(seeds)
    assert found.names == ["seed 1, victim 1", "seed 0, victim 1", "seed 0, victim 0", "seed 0, victim 2"]
    assert found.confidence == [0.99, 0.8, 0.7, 0.4] and (found.typical, found.of) == (0.75, 4)
    assert pictured is None and not found.pictured


def test_only_members_have_a_membership_to_protect(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((4, 1, 8, 8)).astype(np.float32)
    one = ranking(0, [0.1, 0.9, 0.4, 0.7], [0, 0, 1, 1], [0, 1, 2, 3], Member(), inputs=x)
    found, pictured = _exposed([one])
    assert found.confidence == [0.7, 0.4] and pictured is not None
    np.testing.assert_array_equal(pictured.originals, x[[3, 2]])
    write_pictures([pictured], tmp_path)
    assert read_pictures(tmp_path) == [] and len(read_pictures(tmp_path, ranked=True)) == 1


def test_the_page_shows_curves_and_says_how_the_examples_were_chosen() -> None:
    one = ranking(0, [0.1, 0.9, 0.4, 0.7], [0, 0, 1, 1], [0, 1, 2, 3], Member())
    held = Rankings(curves=[_curve(one)], exposed=[_exposed([one])[0]])
    where: dict[str, Any] = {"study": "s", "variant": "wide", "seed": 0, "link": "plaintext", "vantage": "link"}
    row = Row(**where, attack="probe", target="member", measure="auc", value=0.5, low=0.3, high=0.7, n=4, chance=0.5)
    results = Results(study="s", created="2026-01-01T00:00", command="", rows=[row], rankings=held)
    html = page(results)
    assert "not typical: they were chosen by result" in html and "seed 0, victim 3: 70.0" in html
    titles = [title for title, _ in roc_drawings(results, [], {})]
    assert titles == ["wide: member", "wide: member, logarithmic axes"] and all(title in html for title in titles)


def test_an_attack_has_one_colour_in_the_charts_of_all_variants() -> None:
    made = _curve(ranking(0, [0.1, 0.9, 0.4, 0.7], [0, 0, 1, 1], [0, 1, 2, 3], PrivateAttribute("slant")))
    where: dict[str, Any] = {"study": "s", "seed": 0, "link": "plaintext", "vantage": "link", "target": "slant"}
    scores = {("a", "first"): 0.9, ("a", "second"): 0.6, ("b", "first"): 0.6, ("b", "second"): 0.9}
    rows = [
        Row(**where, variant=variant, attack=attack, measure="auc", value=score, n=4, chance=0.5)
        for (variant, attack), score in scores.items()
    ]
    curves = [made.model_copy(update={"variant": variant, "attack": attack}) for variant, attack in scores]
    held = Rankings(curves=curves)
    results = Results(study="s", created="2026-01-01T00:00", command="", rows=rows, rankings=held)
    colours = []
    for _, drawing in roc_drawings(results, boards(rows), {}):
        (legend,) = drawing.draw().legends
        lines = zip(legend.get_texts(), legend.get_lines(), strict=True)
        colours.append({text.get_text().partition(",")[0]: line.get_color() for text, line in lines})
    assert list(colours[0]) == ["first", "second", "guessing"] and list(colours[1]) == ["second", "first", "guessing"]
    assert colours[0] == colours[1] and len(set(colours[0].values())) == 3
