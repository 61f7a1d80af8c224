"""The comparison of defences, on made-up runs: whose attacker counts, what is on the front, what is said."""

from __future__ import annotations

import importlib
import math
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from scipy import stats

from wireleak.lab.report import comparison
from wireleak.lab.report.defences import Spread, compare_defences
from wireleak.lab.report.figures import defence_drawing
from wireleak.lab.run import results as r
from wireleak.lab.run.results import Results

# defence, accuracy and the two attackers' AUC by seed
SETTINGS = {
    "bare": ("none", (0.95, 0.96, 0.97), ((0.90, 0.80), (0.91, 0.81), (0.92, 0.82))),
    "helps": ("noise", (0.94, 0.95, 0.96), ((0.60, 0.70), (0.60, 0.69), (0.60, 0.71))),
    "ruins": ("noise", (0.60, 0.62, 0.61), ((0.50, 0.51), (0.49, 0.50), (0.51, 0.52))),
    "harms": ("reversal", (0.90, 0.91, 0.92), ((0.95, 0.85), (0.96, 0.86), (0.97, 0.87))),
}


def run(*, target: Any = "slant", seeds: Any = (0, 1, 2), held_out: Any = (0.3, 0.4)) -> Results:
    """Results with two attackers; the first does better on its own held-out examples."""
    rows, tasks, fits = [], [], []
    for name, (_, accuracies, aucs) in SETTINGS.items():
        for seed in seeds:
            row = {"study": "s", "variant": name, "seed": seed, "link": "plaintext", "vantage": "gateway", "n": 100}
            for attack, value, loss in zip(("small", "large"), aucs[seed], held_out, strict=True):
                rows.append(r.Row(**row, attack=attack, target=target, measure="auc", value=value))
                rows.append(
                    r.Row(
                        **row, attack=attack, target=target, measure="auc", value=0.5, role="baseline", name="permuted"
                    )
                )
                fits.append(r.Fit(variant=name, seed=seed, attack=attack, target=target, held_out_loss=loss))
            tasks.append(r.Task(variant=name, seed=seed, value=accuracies[seed], n=10, rounds=1))
            if name == "harms":
                own = {"measure": "own/gradient-reversal/adversary-accuracy", "n": 2, "rounds": 1}
                tasks.append(r.Task(variant=name, seed=seed, value=0.5, **own))
    variants = [
        r.VariantSummary(name=name, cut=1, link="plaintext", defence=kind, proved=["noise: DP"] * (name == "ruins"))
        for name, (kind, _, _) in SETTINGS.items()
    ]
    return r.Results(study="s", created="", command="", variants=variants, rows=rows, tasks=tasks, fits=fits)


def drawn(found: Any) -> Any:
    """The chart as a tree."""
    return ElementTree.fromstring(defence_drawing(found).inline())


def discs(tree: Any) -> Any:
    """Words and place of each setting's mark."""
    marks = [(one.find("title"), one.find(".//use")) for one in tree.iter("g")]
    return [(title.text, (float(use.get("x")), float(use.get("y")))) for title, use in marks if title is not None]


def points(**options: Any) -> Any:
    (found,) = compare_defences(run(**options))
    return found, {point.variant: point for point in found.points}


def test_the_strongest_attacker_is_the_one_with_the_least_loss_on_its_own_held_out_examples() -> None:
    """Not the one whose guesses of the victims are best: of "helps", that would be the other one."""
    _, found = points()
    assert {point.attacker for point in found.values()} == {"small"}
    assert found["helps"].leak.value == pytest.approx(0.60)
    _, other = points(held_out=(0.4, 0.3))
    assert other["helps"].attacker == "large" and other["helps"].leak.value == pytest.approx(0.70)


def test_of_texts_the_error_is_the_words_that_were_not_found() -> None:
    """The share of the commonest words' error that is removed, as of pictures of the mean image's."""
    made = run(target="input")
    for row in made.rows:
        row.measure, row.name = "words-found", row.name and "commonest"
        row.value = 0.25 if row.name else row.value
    (found,) = compare_defences(made)
    bare = found.baseline.leak.value
    assert bare == pytest.approx(sum(1 - (1 - value) / 0.75 for value in (0.90, 0.91, 0.92)) / 3)
    assert (found.leak, found.floor, found.attackers) == ("error removed", 0.0, ("small", "large"))


def test_losses_and_gains_are_paired_by_seed() -> None:
    found, by_name = points()
    assert found.baseline.variant == "bare"
    assert by_name["helps"].lost.value == pytest.approx(0.01)
    assert by_name["helps"].lost.low == pytest.approx(0.01)  # the same in every seed
    assert by_name["helps"].gained.value == pytest.approx(0.31)
    assert by_name["harms"].gained.high < 0
    half = stats.t.ppf(0.975, 2) * stats.sem([0.90, 0.91, 0.92])
    assert by_name["bare"].leak.high - by_name["bare"].leak.value == pytest.approx(half)


def test_the_front_holds_what_no_other_setting_beats_on_both() -> None:
    _, found = points()
    assert {name for name, point in found.items() if point.front} == {"bare", "helps", "ruins"}


def test_the_claims_are_answered_from_the_figures() -> None:
    found, _ = points()
    said = " ".join(comparison.claims(found))
    assert "2 of 3 settings lower the leak" in said and "1 of them costs 2 points or less (2 helps)" in said
    assert "guessing (0.5; margin 0.1): " in said and "Not resolved" in said and "No leak above 0.6" in said
    assert "1 setting guarantees a bound for every attacker (3 ruins)" in said
    assert "adversary-accuracy 0.500" in comparison.table(found)
    titles = [title for title, _ in discs(drawn(found))]
    assert [title.partition(":")[0] for title in sorted(titles)] == ["1 bare", "2 helps", "3 ruins", "4 harms"]
    assert sum(title.endswith(", on the front") for title in titles) == 3


@pytest.mark.parametrize("best", [(0.95, 0.96, 0.97), (1.0, 1.0, 1.0), (0.3, 0.9, 0.9)])
def test_all_is_drawn_within_the_frame_however_wide_an_interval_is(monkeypatch: pytest.MonkeyPatch, best: Any) -> None:
    monkeypatch.setitem(SETTINGS, "bare", ("none", best, SETTINGS["bare"][2]))
    found, _ = points()
    tree = drawn(found)
    dots = [place for _, place in discs(tree)]
    assert len(dots) == 4 and len(set(dots)) == 4
    width, height = map(float, tree.get("viewBox").split()[2:])
    assert all(0 < x < width and 0 < y < height for x, y in dots)
    # Whiskers are cut at the frame.
    whiskers = [one for one in tree.iter("path") if "stroke-opacity: 0.45" in one.get("style", "")]
    cut = [one for one in whiskers if one.get("clip-path")]
    assert len(cut) == 2 * 4 and len(whiskers) == len(cut) + 1


def test_settings_that_are_never_wrong_are_drawn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (kind, _, aucs) in list(SETTINGS.items()):
        monkeypatch.setitem(SETTINGS, name, (kind, (1.0, 1.0, 1.0), aucs))
    found, _ = points()
    assert len(discs(drawn(found))) == 4


def test_what_dp_sgd_guarantees_of_training_examples_is_no_bound_on_these_attackers() -> None:
    results = run()
    how = {"noise_multiplier": 1, "max_grad_norm": 1, "delta": 1e-5, "optimiser": "sgd", "batch": 5, "examples": 50}
    results.variants[1].privacy = r.Private(**how)
    results.tasks += [
        r.Task(variant="helps", seed=seed, measure="epsilon", value=value, n=2, rounds=1)
        for seed, value in enumerate((7.9, 8.1, 8.0))
    ]
    (found,) = compare_defences(results)
    helps = next(point for point in found.points if point.variant == "helps")
    assert helps.holds == "nothing; ε 8.1, δ 1e-05 for one training example; this does not cover these inputs"
    assert "1 setting guarantees a bound for every attacker (3 ruins)" in " ".join(comparison.claims(found))


def test_many_settings_get_a_panel_each_defence(monkeypatch: pytest.MonkeyPatch) -> None:
    few, _ = points()
    assert "a panel for each defence" not in defence_drawing(few).said
    for place in range(24):
        accuracies = tuple(0.9 + place / 1000 + seed / 100 for seed in range(3))
        monkeypatch.setitem(SETTINGS, f"swept{place}", (f"sweep {place // 3}", accuracies, SETTINGS["helps"][2]))
    found, _ = points()
    assert "a panel for each defence" in defence_drawing(found).said
    tree = drawn(found)
    texts = [one.text for one in tree.iter("text")]
    families = ["noise", "reversal", *(f"sweep {place}" for place in range(8))]
    assert [text for text in texts if text in families] == families
    # Each panel has its own settings with their numbers, no defence, and all others in grey.
    assert len(discs(tree)) == 27 + 10
    assert sum("#c4c4c4" in one.get("style") for one in tree.iter("use")) == 10 * 27 - 27 + 1
    numbers = [text for text in texts if text.isdecimal() and int(text) > 1]
    assert sorted(map(int, numbers)) == list(range(2, 29))
    width, height = map(float, tree.get("viewBox").split()[2:])
    assert all(0 < x < width and 0 < y < height for _, (x, y) in discs(tree))
    # No label of the upright axis lies on the one above.
    levels = sorted(
        float(one.get("y"))
        for one in tree.iter("text")
        if "text-anchor: end" in one.get("style") and float(one.get("x")) < 58
    )
    assert levels and min(after - before for before, after in pairwise(levels)) >= 13


def test_one_seed_says_nothing_of_what_helps() -> None:
    found, by_name = points(seeds=(0,))
    assert math.isnan(by_name["helps"].leak.low)
    assert "One seed gives no interval" in comparison.claims(found)[-1]


def test_a_study_without_a_baseline_compares_nothing() -> None:
    results = run()
    results.variants[0].defence = ""
    assert compare_defences(results) == []


def test_a_spread_of_equal_values_is_a_point() -> None:
    assert Spread.of([0.5, 0.5, 0.5]) == Spread(0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("study", "heads"),
    [
        ("input-noise", {"input-noise.csv": "variant", "input-noise-settings.csv": "target"}),
        ("defences", {"defences.csv": "target"}),
    ],
)
def test_the_docs_keep_a_comparison_beside_the_scores_of_a_study_with_a_table_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: str, heads: dict[str, str]
) -> None:
    docs = Path(__file__).parents[4] / "docs"
    monkeypatch.syspath_prepend(str(docs))
    module = importlib.import_module("make_results")
    for name in ("published.csv", "training.csv", "index.csv", "headlines.toml"):
        shutil.copy(docs / "results" / name, tmp_path)
    versions = dict.fromkeys(("python", "flwr", "torch", "grpcio"), "1")
    results = run().model_copy(update={"study": study, "versions": versions})
    monkeypatch.setattr(module, "read_results", lambda _: results)
    monkeypatch.setattr(module.headlines, "RESULTS", tmp_path)
    module.carry(tmp_path)
    written = {path.name: path.read_text().partition(",")[0] for path in (tmp_path / "defences").glob("*.csv")}
    assert written == heads
    assert (tmp_path / "defences" / f"{study}-slant.svg").is_file()
